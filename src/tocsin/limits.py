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

# ------------------------------------------------------- server-sent events and chat completions

SSE_EVENT_BYTES_MAX: int = 8 * 1024 * 1024
"""Longest server-sent event that is read, and longest line of one: the last event of a response may
repeat all of its text, and the first one the instructions that came with the request."""

SSE_NAME_BYTES_MAX: int = 128
"""Longest name of a server-sent event; the longest of today's APIs has about 60 characters."""

IDENTIFIER_CHARS_MAX: int = 256
"""Longest identifier, model or tool name that is passed on; real ones stay below 128."""

CHOICES_MAX: int = 16
"""Most answers to one request: each is watched and held back by itself. OpenAI allows 128, and
hardly anybody asks for more than five."""

MESSAGES_MAX: int = 10_000
"""Most messages of one request, and most parts of one message."""

TOOLS_MAX: int = 1_024
"""Most tools of one request; OpenAI allows 128."""

DOCUMENTS_MAX: int = 1_024
"""Most retrieved documents of one request."""

TOP_TOKENS_MAX: int = 20
"""Most alternatives at one place whose log-probabilities are read: what OpenAI gives at most."""

# ------------------------------------------------------------------------------ guarded responses

FEED_CHARS: int = 48
"""Characters of a channel that are checked together. The grid is fixed to the text, so that chunks
change nothing; a dozen tokens share the cost of one look, and the reader gets them at once."""

HELD_CHARS_MAX: int = 4_194_304
"""Most characters of one response that wait to be shown: the longest answers of today's models have
a tenth of it."""

ALARMS_KEPT: int = 64
"""Alarms of one response that are told one by one; later ones are counted."""

APPEALS_MAX: int = 4
"""Times that one response is taken to a stronger verifier or a person: each reads all of it, so
that more would cost time quadratic in its length."""

APPEAL_DEADLINE_MS_MAX: int = 600_000
"""Longest time that a paused stream may wait for a decision."""

LANE_MAX: int = 16_384
"""Beginnings and ends of blocks, and texts between them, that wait one behind the other: four times
what the blocks of a long agentic answer come to."""

MARKER_CHARS_MAX: int = 64
"""Longest marker that stands for masked text."""

# ------------------------------------------------------------------------- Anthropic messages

MESSAGES_SIGNATURE_CHARS_MAX: int = 1_048_576
"""Longest signature of a thinking block: where the thinking is not shown, it holds all of it,
encrypted; a hundred thousand tokens of it are half of this."""

MESSAGES_JSON_DEPTH_MAX: int = 128
"""How deep a request, or the arguments of a tool call, may be nested: the official client cannot
read arguments nested deeper than 200."""

# --------------------------------------------------------------------------- OpenAI responses

RESPONSES_BLOCKS_MAX: int = 4_096
"""Most items of one answer, most parts of all of them together, and most entries of one list in it.
A long agentic answer has some hundreds."""

RESPONSES_CHARS_MAX: int = 16_777_216
"""Most characters of one answer that are read, all channels together: four times what may wait, and
more than forty times the longest answer of today's models."""

RESPONSES_OPAQUE_CHARS_MAX: int = 4_194_304
"""Longest `encrypted_content` of a reasoning item that is passed on: a hundred thousand tokens of
thinking take a tenth of it."""

RESPONSES_JSON_DEPTH_MAX: int = 64
"""How deep the parts of an input item of another type are searched for text."""

# -------------------------------------------------------------------- configuration of the gateway

GATEWAY_CONFIG_BYTES_MAX: int = 1_048_576
"""Largest configuration file of the gateway: five thousand tenants take about half of it."""

GATEWAY_CONFIG_NODES_MAX: int = 100_000
"""Most values in such a file, those behind aliases counted each time: what aliases of aliases of
aliases would become has no end."""

GATEWAY_CONFIG_DEPTH_MAX: int = 32
"""How deep such a file may be nested; a real one has six levels."""

GATEWAY_COMPLAINTS_MAX: int = 20
"""Errors of one configuration that are told at once; the rest shows when these are mended."""

GATEWAY_WAIT_MS_MAX: int = 3_600_000
"""Longest deadline in a configuration; a reader who waits longer than an hour has gone."""

GATEWAY_STREAMS_MAX: int = 1_000_000
"""Most requests under way at once that a configuration may allow; memory ends before."""

GATEWAY_BODY_BYTES_MAX: int = 256 * 1024 * 1024
"""Largest request body that a configuration may allow: a dozen large images."""

REPLACEMENT_CHARS_MAX: int = 4_096
"""Longest text that stands in the place of a stopped response."""

# ------------------------------------------------------------------------- gateway: the data path

UPSTREAM_READ_BYTES: int = 8_192
"""Bytes of an upstream's answer that may wait to be read; at twice as many the socket is not read
any more. A frame has two hundred."""

UPSTREAM_SOCKET_BYTES: int = 65_536
"""Room that the kernel is asked to keep for an upstream's bytes that nobody has read."""

CLIENT_WRITE_BYTES: int = 16_384
"""Bytes that may wait in the process for a client to read; beyond that the stream pauses."""

CLIENT_SOCKET_BYTES: int = 32_768
"""Room that the kernel is asked to keep for a client's bytes that it has not read. Linux gives
about twice what is asked for; all that one stalled stream keeps stays below 256 KiB."""

UPSTREAM_BODY_BYTES_MAX: int = 32 * 1024 * 1024
"""Longest answer that is read in one piece: a hundred thousand tokens with log-probabilities."""

UPSTREAM_ERROR_BYTES_MAX: int = 65_536
"""Most bytes that are read of an upstream's error, to find its code."""

UPSTREAM_POOL_MS: int = 4_000
"""How long an idle connection to an upstream is kept: less than the five seconds after which some
serving engines close theirs, so that no request meets a connection that is just being closed."""

UPSTREAM_LINGER_MS: int = 250
"""How long an upstream that has said all may take to end its body, before it is closed."""

TICK_MS: int = 200
"""How often open streams are looked at for silence: one timer for all of them."""

SLICE_CHARS: int = 4_096
"""Text that is checked in one go: two to three milliseconds, then other streams have their turn."""

INPUT_CHANNELS_MAX: int = 200
"""Messages of a request that are checked as texts of their own; older ones are joined by role."""

OBSERVED_MAX: int = 64
"""Texts that the generator saw since the last answer of a conversation; the rest is joined."""

CONVERSATIONS_MAX: int = 10_000
"""Conversations whose trajectories are kept; the one that was silent longest is forgotten first."""

CONVERSATION_IDLE_S: float = 3_600.0
"""Silence after which a conversation is forgotten."""

RECEIPTS_WAITING_MAX: int = 1_024
"""Receipts that wait to be written; a disk that is so far behind loses the next ones."""

VERIFIER_THREADS_MAX: int = 64
"""Most threads on which verifiers are run that would block the loop."""

# --------------------------------------------------------------- the gateway as a process, its door

CLIENT_LINE_BYTES_MAX: int = 8_190
"""Longest request line, and longest name of a header field with its value; the APIs here need a
few hundred."""

CLIENT_FIELD_BYTES_MAX: int = 16_384
"""Longest header field: some proxies add long tokens of identity."""

CLIENT_FIELDS_MAX: int = 100
"""Most header fields of a request; official clients send about twenty."""

CLIENT_READ_BYTES: int = 65_536
"""Bytes of a request's body that are buffered before the client has to wait."""

CLIENT_IDLE_MS_MAX: int = 75_000
"""How long a connection may stay open between two requests: longer than the minute that load
balancers keep theirs."""

CLIENT_LEFTOVER_MS_MAX: int = 1_000
"""How long the rest of a body that nobody wants is read, so that the client sees the answer."""

CONNECTIONS_MAX: int = 16_384
"""Most connections of one process, where its file descriptors suffice for so many."""

DESCRIPTORS_RESERVED: int = 128
"""File descriptors kept for files, logs, verifiers and pools; the rest is for connections, of which
each may need a second one to its upstream."""

LISTEN_BACKLOG: int = 1_024
"""Connections that wait to be accepted: a burst of as many clients is no fault."""

LAG_TICK_MS: int = 100
"""How often the process looks whether its loop is late, and at connections that are."""

LAG_MS_MAX: int = 500
"""An event loop that is late by this much takes no new streams: text would leave later than a
reader can bear, and more work makes it worse."""

ENDING_MS_MAX: int = 2_000
"""How long responses that were told to end may take to write their last bytes."""

WORKERS_MAX: int = 256
"""Most worker processes; more than cores never help."""

WORKER_BACKOFF_MS_MIN: int = 100
"""Pause before a worker that died is started again; it doubles with each death."""

WORKER_BACKOFF_MS_MAX: int = 10_000
"""Longest such pause. A worker that has lived for as long begins anew with the shortest."""

WORKER_START_MS_MAX: int = 60_000
"""How long a worker may take until it listens; large classifiers take seconds to load."""

WORKER_STOP_MS_MAX: int = 5_000
"""How long a worker may take to end beyond its time for draining, before it is killed."""

LOG_LINES_WAITING_MAX: int = 8_192
"""Log lines that wait for a slow reader of standard error; later ones are dropped and counted, so
that a full pipe never stops a stream."""
