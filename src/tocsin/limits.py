"""Every bound of the program, named in one place, with the reason for its value."""

SCORE_PATH_STEPS_KEPT: int = 4_096
"""Scores of one response that a session keeps verbatim, at least; never more than twice that.
Older ones survive as a checkpoint of the statistic, from which the decision can be replayed."""

TRAJECTORY_STEPS_MAX: int = 1_000_000
"""Longest trajectory accepted from a file or a stream: one step a token for a very long output."""

TOKENS_PER_STEP_MAX: int = 1_000_000_000
"""Most tokens that one step may claim; sums over billions of rows stay exact."""

EXACT_TIE_N_MAX: int = 5_000
"""Largest n for which a binomial tail that falls within rounding distance of delta is settled in
rational arithmetic; above it such a tie counts as a refusal, which is the safe side."""

EPSILON_MIN: float = 1e-12
"""Smallest level accepted; it would need two million million trajectories."""

EPSILONS_MAX: int = 100
"""How many epsilon values one calibration may certify at once."""

CALIBRATION_BYTES_MAX: int = 32 * 1024 * 1024
"""Largest calibration file that is read: a fitted posterior takes well under a megabyte."""

PER_STEP_KNOTS: int = 33
"""Quantile knots kept for each step by `per_step_quantile`."""

PER_STEP_TRAJECTORIES_MIN: int = 20
"""A step's own quantiles are fitted on at least this many trajectories; later steps share them."""

LINE_BYTES_MAX: int = 1024 * 1024
"""Longest JSON line that `tocsin monitor` reads."""

OPEN_SESSIONS_MAX: int = 100_000
"""Trajectories that `tocsin monitor` follows at once before it refuses new ones."""

COLUMNS_MAX: int = 12
"""Most data sets in one figure; a wider one is of no use to anyone."""

DATA_BYTES_MAX: int = 2 * 1024**3
"""Most bytes that are read from one data file, after decompression."""

DATA_ROWS_MAX: int = 50_000_000
"""Most rows that are read from one parquet file."""

STEP_CHARS_MAX: int = 4_096
"""Longest step whose end is looked for in the text; a longer one is cut here. Four thousand
characters are about a page: a reader should not wait longer for a score."""

TURN_CHARS_MAX: int = 1_048_576
"""Longest turn that is kept whole as one step; a longer one is cut here."""

STEP_SIZE_MAX: int = 4_096
"""Largest k of a step of k characters or tokens."""

CHANNELS_MAX: int = 256
"""Channels that one session follows: choices times tool calls; more is an attack or a fault."""

SELF_CERTAINTY_NATS_MAX: float = 20.0
"""Surprise at which a token's share in self-certainty is capped: a probability of two in a thousand
million, below what serving engines report apart from rounding. It makes the range finite."""

ONNX_SETTINGS_BYTES_MAX: int = 65_536
"""Largest `tocsin.toml` of a classifier's folder; a real one has a kilobyte."""

ONNX_FILE_BYTES_MAX: int = 2**31 - 1
"""Largest file of a classifier: a model with its weights inside is a protobuf, which ends there."""

ONNX_LABELS_MAX: int = 1_000
"""Most labels of a classifier; real ones have two to a few dozen."""

ONNX_TOKENS_MAX: int = 8_192
"""Longest window that a classifier reads at once: the longest of today's small encoders. The memory
of one inference grows with its square."""

ONNX_CONTEXT_CHARS_MAX: int = 16_384
"""Most text before a step that a classifier judges with it: the cost of a step stays bounded."""

ONNX_TEXT_TOKENS_MAX: int = 16_384
"""Most tokens of one text that a classifier reads, all windows together: three seconds of one
core with a small model. In windows of 64 that is 45,000 characters of English; the longest tool
result in AgentDojo has 30,000."""

ONNX_THREADS_MAX: int = 64
"""Most threads of one inference; more than cores never help."""

REMOTE_CONFIG_BYTES_MAX: int = 1024 * 1024
"""Largest configuration of a remote verifier, or policy or prompt that it names."""

REMOTE_ANSWER_BYTES_MAX: int = 16 * 1024 * 1024
"""Most bytes that are read of a remote verifier's answer: a full batch of rewards for each token
takes about ten million, all other answers a few thousand."""

REMOTE_DEADLINE_MS_MAX: int = 600_000
"""Longest time that a remote verifier may be waited for: beyond ten minutes nobody reads along."""

REMOTE_CALLS_MAX: int = 1_024
"""Most calls of one remote verifier under way at once."""

REMOTE_QUEUE_MAX: int = 65_536
"""Most steps that may wait for a remote verifier; each holds its text."""

REMOTE_BATCH_MAX: int = 1_024
"""Most texts in one call."""

REMOTE_CHARS_MAX: int = 1_048_576
"""Longest text sent for one step: more than guards and reward models read today."""

REMOTE_SESSION_ASKS_MAX: int = 4
"""Steps of one response that are asked for at once when its text comes in one piece, so that a
long response does not fill the queue for the others."""

REMOTE_RETRY_AFTER_S_MAX: float = 300.0
"""Longest pause that a server may ask for: its word alone must not silence us for long."""

REMOTE_BREAKER_CALLS_MAX: int = 1_024
"""Most outcomes of calls that a circuit breaker looks back on."""

PATTERN_CHARS_MAX: int = 512
"""Longest match that a rule of the `patterns` verifier may have, before its `rest`: text is held
back for that long."""

PATTERN_REST_MAX: int = 65_536
"""Most characters that a rule's `rest` may add to a match: a private key of any size in use."""

PATTERN_RULES_MAX: int = 2_000
"""Rules that one `patterns` verifier compiles; more would take minutes and gigabytes."""

PATTERN_FILE_BYTES_MAX: int = 1_048_576
"""Largest file of rules that is read."""

CLUSTER_CHARS_MAX: int = 24
"""Raw characters over which a character and its marks are looked at together; no language needs
half of it, and a stack of a million marks must not be held back."""

MARKS_MAX: int = 16
"""Combining marks in a row that a folded text keeps; stacked ones are no writing."""

FOLDED_PER_CHAR_MAX: int = 4
"""Characters that one character may become when it is folded; a few ligatures would be 18."""

DECODE_LEVELS: int = 3
"""Encodings of one text in another that are undone; each level costs its own delay."""

DECODE_LAG_CHARS_MAX: int = 96
"""Raw characters that one level of decoding holds back: a window of base64 inside base64 is 86."""

ESCAPE_CHARS_MAX: int = 34
"""Longest escape that is read: the longest named HTML entity has 33 characters."""

ENCODED_CHARS_MIN: int = 16
"""Shortest run of base64 or hexadecimal digits that is decoded; shorter ones are often words."""

ENCODED_WINDOW_CHARS: int = 64
"""Characters of such a run that are judged and decoded together; each window is judged anew."""

CARD_DIGITS_MAX: int = 19
"""Most digits of a payment card (ISO/IEC 7812): no more decimal digits in a row than these are
never taken for hexadecimal ones, or a card number would vanish from the decoded text."""

WORD_CHARS_MAX: int = 32
"""Longest word that is looked at as a whole when letters are put for digits in it."""

FUSION_MEMBERS_MAX: int = 16
"""Most verifiers that one `combined` verifier reads: each is fed all of the text."""

FUSION_DEPTH_MAX: int = 3
"""How deep `combined` and `cascade` verifiers may stand within each other; a file that names itself
would have no end."""

FUSION_FILE_BYTES_MAX: int = 1_048_576
"""Largest file of a `combined` or `cascade` verifier; a real one has a few thousand bytes."""

CASCADE_BURST_MAX: int = 1_000
"""Most escalated steps beyond the budget that one response may be given."""

REVEAL_LAG_CHARS_MAX: int = 48
"""Raw characters over which the escaped variation selectors that hide one character may spread:
four of them, written as long entities."""

SQUEEZE_LAG_CHARS_MAX: int = 64
"""Raw characters that are held back to see whether a word is spelled out or written in digits."""

LINEAR_FILE_BYTES_MAX: int = 64 * 1024 * 1024
"""Largest model file of the `linear` verifier that is read; the shipped ones stay below 2 MiB."""

LINEAR_HEADER_BYTES_MAX: int = 1024 * 1024
"""Largest header of such a file: a card with its tables takes some tens of kilobytes."""

LINEAR_CHUNK_BYTES: int = 65_536
"""Bytes whose n-grams are looked up at once, which bounds what a long turn takes while it is
scored: about 2 MiB."""

OBSERVED_CHARS_HELD: int = 65_536
"""Characters of an observation that wait for the next step before they are read."""

LINEAR_TRAIN_MIN: int = 50
"""Fewest trajectories of either class that `tocsin train` learns from; with fewer, what it measures
of itself would mean nothing."""

LINEAR_HEAD_UNSAFE_MIN: int = 50
"""Fewest unsafe trajectories of a harm category for which a head of its own is trained."""
