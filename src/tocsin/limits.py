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

LIMIT_TOLD_S: float = 1.0
"""How often the record is told that a tenant is over its limit: a flood writes one event each."""

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

# ------------------------------------------------------------------------ receipts and their proofs

TREE_SIZE_MAX: int = 2**63 - 1
"""Most entries of a log: what databases and other people's tools hold in a signed number."""

NOTE_BYTES_MAX: int = 262_144
"""Longest signed note: sixteen signatures of the largest kind that there is take half of it."""

NOTE_SIGNATURES_MAX: int = 64
"""Most signatures of a note; verifiers have to accept sixteen."""

KEY_NAME_CHARS_MAX: int = 1_024
"""Longest name of a key, and so of a log with its tenant."""

KEYS_MAX: int = 4_096
"""Most public keys that are trusted at once: one for each tenant, and each rotation."""

ENTRY_BYTES_MAX: int = 8_388_608
"""Longest entry of a log. A receipt of a long stream has two score paths for each check."""

PROOF_BYTES_MAX: int = 12_582_912
"""Longest proof: an entry in base64, a path of at most 63 hashes, and a signed note."""

KEY_FILE_BYTES_MAX: int = 1_048_576
"""Longest file of keys."""

# ------------------------------------------------------------------ the record: events in and out

RECORD_WAITING_MAX: int = 4_096
"""Appends of one process that wait to be committed: a quarter of a second of a busy gateway, on a
disk that takes four commits a second."""

RECORD_EVENTS_WAITING_MAX: int = 65_536
"""Events in them, all together: about 50 MB."""

RECORD_CONTENTS_UPTO: int = 1_024
"""Appends that wait, from which on raw content is shed so that events and receipts get through."""

RECORD_CONTENT_CHARS_MAX: int = 8_388_608
"""Characters of raw content that may wait, all together."""

RECORD_SLOW_MS: int = 1_000
"""A store is called slow when the oldest append has waited for so long."""

RECORD_PROBE_MS: int = 500
"""How often a store that refused is asked again, and what was shed is told."""

RECORD_REFUSED_MS: int = 5_000
"""How long the record counts as taking nothing after the store has refused what the process itself
had to say as against its rules; then it is tried again."""

RECORD_CLOSE_MS_MAX: int = 10_000
"""How long the end of a process waits for what is still to be committed."""

RECORD_AGAIN_MAX: int = 64
"""Appends that a store had refused and that are given again at once, when it takes some."""

RECORD_CLOSE_REFUSED_MS: int = 1_000
"""How long the end of a process tries what a full or busy store refuses; receipts are in the log
then, and a supervisor kills a worker that takes too long."""

RECORD_PERIOD_S: float = 60.0
"""How often a period is signed: the longest time that a missing alarm goes without a statement."""

RECORD_REDACT_MS: float = 2.0
"""How long events are redacted in one go before other work of the loop has its turn; long comments
take a millisecond each."""

EVENTS_BYTES_MAX: int = 4_194_304
"""Largest batch of events or spans that is taken, unpacked: a thousand events of 4 KB."""

EVENTS_BATCH_MAX: int = 1_000
"""Most events in one batch: they are one commit."""

EVENT_BYTES_MAX: int = 65_536
"""Longest single event as JSON."""

EVENT_ID_CHARS_MAX: int = 256
"""Longest id, source, name of a route, model, tool...: whatever names something."""

EVENT_TEXT_CHARS_MAX: int = 4_096
"""Longest free text that a person wrote: a comment, a note, a reason."""

EVENT_ITEMS_MAX: int = 256
"""Most items of a list or a table within one event."""

EVENT_AHEAD_US_MAX: int = 300_000_000
"""How far in the future an event may lie: five minutes of a wrong clock."""

EVENT_BEHIND_US_MAX: int = 90 * 86_400_000_000
"""How far in the past: what was kept back for longer belongs into an import."""

SPAN_ATTRIBUTES_MAX: int = 256
"""Most attributes of a span that are looked at."""

SPANS_BATCH_MAX: int = 10_000
"""Most spans in one request; exporters send a few hundred."""

SPANS_OBJECTS_MAX: int = 150_000
"""Most braces in a request in JSON: 512 spans with thirty attributes have a third of it, and a
million empty objects would keep the process busy for a second."""

EVENTS_READ_AT_ONCE: int = 2
"""Large batches that are decoded at once: a hostile one takes eighty times its size in memory."""

EVENTS_BODY_MS_MAX: int = 10_000
"""How long a batch may take to come in."""

EVENTS_INLINE_BYTES: int = 16_384
"""Up to this size a batch is read within the loop: under a millisecond. Larger ones go to a thread,
so that streams of the same process go on."""

EVENTS_UNDER_WAY_MAX: int = 16
"""Batches of one tenant that are worked on at once; the next one is told to come again."""

EVENTS_UNDER_WAY_ALL_MAX: int = 64
"""The same for all tenants of a process: with the largest bodies about half a gigabyte."""

RECORD_READS_MAX: int = 8
"""Receipts and traces that are read at once over HTTP."""

LOG_PERIODS_MAX: int = 500
"""Periods of a tenant's log in one answer over HTTP; the next ones are asked for by its `next`."""

EVENTS_COMMIT_MS_MAX: int = 2_000
"""How long a sender waits for the commit of a batch before it is told to come again."""

RECORD_RETRY_AFTER_S: int = 1
"""When a sender whose batch was not taken should come again."""

EVENTS_CLIENT_WAITING_MAX: int = 10_000
"""Events that a client keeps while it cannot send them: some ten megabytes."""

EVENTS_CLIENT_BATCH: int = 500
"""Events that a client sends at once; a full batch of long comments still fits into one body."""

EVENTS_CLIENT_LINGER_S: float = 0.5
"""How long a client waits for more events before it sends the first."""

EVENTS_CLIENT_TIMEOUT_S: float = 10.0
"""How long a client waits for an answer."""

EVENTS_CLIENT_BACKOFF_S_MAX: float = 30.0
"""Longest pause of a client or an exporter between two tries; the first takes a quarter second."""

EVENTS_ANSWER_BYTES_MAX: int = 1_048_576
"""Most that is read of an answer: a thousand verdicts take a tenth of it."""

OUTWARD_BATCH: int = 200
"""Events that an exporter sends at once: receivers of webhooks often take a megabyte at most."""

OUTWARD_IDLE_S: float = 1.0
"""How often an exporter that has sent all looks for more."""

EXPORT_ROWS: int = 5_000
"""Events that an export reads at once."""

OUTWARD_TRIES_MAX: int = 8
"""Tries in a row that fail, after which an export that does not follow gives up: half a minute."""

# ----------------------------------------------------------------------------------- the record

STORE_TENANT_CHARS_MAX: int = 128
"""Longest name of a tenant in the store; the configuration's own names are shorter."""

STORE_ID_CHARS_MAX: int = 256
"""Longest id of an event, an entry or anything that events are found by."""

STORE_EVENT_BYTES_MAX: int = 262_144
"""Largest event: a retrieval of a thousand long source ids fits, a text that was smuggled in as
one does not."""

STORE_CONTENT_CHARS_MAX: int = 16_777_216
"""Longest raw content kept in one piece: the longest answer that is read."""

STORE_BUSY_MS_MAX: int = 5_000
"""How long a commit waits for another process's to end before it says that the store is busy."""

STORE_LINGER_MS_MAX: float = 5.0
"""Longest that an append waits for others to share its sync; an answer's end waits along."""

STORE_APPENDS_MAX: int = 256
"""Most appends of one commit: what a sync costs is shared well before, and a commit stays short."""

STORE_BATCH_EVENTS_MAX: int = 4_096
"""Most events of one commit that the writer puts together: a few tens of milliseconds."""

STORE_WAITING_MAX: int = 4_096
"""Appends that wait for the writer; beyond that the store says that it is busy."""

STORE_RETRY_MS_MAX: int = 10_000
"""How long the writer tries a commit again where the store is busy or away."""

STORE_WAL_PAGES: int = 2_048
"""Pages (of 4 KiB, as estimated) written between two checkpoints of SQLite's log: 8 MiB, read back
in well under a second after a crash."""

STORE_WAL_BYTES_KEPT: int = 64 * 1024 * 1024
"""To what SQLite's log is cut back after a long reader let it grow."""

STORE_READ_MAX: int = 10_000
"""Rows that one call reads unless more are asked for."""

STORE_TRACE_EVENTS_MAX: int = 10_000
"""Most events of one trace; a response has some dozens, a long session a few thousand."""

# --------------------------------------------------------------------------- the gateway's record

RECORD_WAIT_MS: int = 1_000
"""How long the end of an answer with an alarm waits for its receipt to be on disk; text that was
stopped is not shown meanwhile, and the answer then says that it was not recorded."""

RECEIPTS_KEEPING_MAX: int = 4_096
"""Receipts of one process that wait to be committed; the log has a line for each of them, and the
record says long before that it is too slow."""

USER_CHARS_MAX: int = 512
"""Longest name of a user that is made a pseudonym; longer ones are cut."""

CONTENT_CHARS_MAX: int = 1_048_576
"""Most characters of raw content that are kept of one response, where a policy keeps any."""

RETRIEVED_IDS_MAX: int = 64
"""Ids of retrieved documents that one event names; the count is of all of them."""

LANGUAGE_CHARS_MAX: int = 35
"""Longest tag of a language; RFC 5646 asks for as much."""
# -------------------------------------------------------------------------------------- privacy

REDACTED_TEXT_CHARS_MAX: int = 4_096
"""Longest free text of an event that is kept; comments of people have a few hundred characters."""

REDACTED_NAME_CHARS_MAX: int = 256
"""Longest identifier that is kept as it is; a longer one becomes a hash."""

REDACTED_EVENT_CHARS_MAX: int = 16_384
"""Most characters of one event that are searched closely, which takes up to a tenth of a second for
hostile ones. Names beyond become hashes, free text beyond is dropped."""

REDACTED_ITEMS_MAX: int = 1_024
"""Most names of one list in an event, such as sources of a retrieval; later ones are left out."""

REDACTED_KNOWN_MAX: int = 8_192
"""Names in one of two generations that are remembered to be clean: about two megabytes."""

REDACTED_PEOPLE_MAX: int = 8_192
"""People of one tenant whose pseudonyms are kept at hand; more are computed again."""

REDACTED_PROMPT_CHARS_MAX: int = 32_768
"""Characters of what was asked that its fingerprint is made of: less than a millisecond."""

REDACTION_KEY_BYTES_MIN: int = 32
"""Fewest bytes of the key that hashes what is masked."""

REDACTORS_MAX: int = 10_000
"""Tenants whose derived keys are kept at hand; more are derived again."""

PURGE_MS_MAX: int = 5_000
"""How long an erasure waits for readers of the store, so that no older page is left behind."""

BREAK_GLASS_MINUTES: int = 60
"""How long raw content may be read after somebody broke the glass, where nothing else is said."""

BREAK_GLASS_MINUTES_MAX: int = 24 * 60
"""Longest that a grant may last; who needs more asks again, and is seen again."""

REASON_CHARS_MIN: int = 8
"""Shortest reason for reading or erasing raw content: a word is none."""

REASON_CHARS_MAX: int = 1_000
"""Longest reason that is taken; it is redacted and stored."""

# ------------------------------------------------------- the record: history, retention, questions

AUDIT_ROWS_MAX: int = 20
"""Values of one dimension that an audit shows; it counts and tests all of them."""

AUDIT_RESPONSES_MAX: int = 2_000_000
"""Responses that one audit takes into memory: about a gigabyte."""

AUDIT_UNITS_MIN: int = 30
"""Sessions that a period needs before its scores are compared with others'."""

AUDIT_PERIODS_MAX: int = 400
"""Periods into which an audit divides its time: an hour each for two weeks."""

AUDIT_WORDS_MAX: int = 40
"""Characters of a name that a picture or a table of an audit shows."""

CONTENT_DAYS_MAX: float = 3_650.0
"""Longest that a configuration may ask for raw content to be kept: ten years."""

HISTORY_ROWS_MAX: int = 500_000
"""Events of one Parquet file: about 50 MB, read in well under a second."""

HISTORY_GROUP_ROWS: int = 65_536
"""Events of one row group of a Parquet file, and of one step of writing it: some 50 MB."""

HISTORY_DELETE_ROWS: int = 2_000
"""Rows that one transaction takes out of the row store: it holds other writers up for some tens of
milliseconds."""

HISTORY_MEMORY_MB: int = 1_024
"""What DuckDB may use to read history; a question that needs more is refused."""

HISTORY_IDS_OPEN_MAX: int = 4_096
"""Files of ids that are kept mapped at once; they take address space, and memory as it is used."""

HISTORY_AFTER_HOURS: int = 24
"""How old an event has to be before it goes to a file. Until then an event that is given again
under its id is recognised."""

HISTORY_BUCKETS_MAX: int = 100_000
"""Buckets of time in one answer: 24 hours of seconds."""

CONTENT_EXPIRE_S: float = 600.0
"""How often a gateway deletes raw content whose time is over."""

RETENTION_DAYS_MAX: int = 36_525
"""Longest that anything is kept under a rule: a hundred years."""

TRACE_VALUE_CHARS_MAX: int = 120
"""Characters of one value that a trace in a terminal shows; JSON shows all of them."""

# ----------------------------------------------------------------------- the process and its memory

GARBAGE_YOUNG_MAX: int = 10_000
"""New objects after which Python looks for cycles among them: those of some ten requests. Hardly
any leaves a cycle; all the rest goes as soon as nobody refers to it."""

TRACE_AROUND_US: int = 600_000_000
"""How long before and after a request's events a trace counts what retention took away: ten
minutes, longer than most streams."""

TENANTS_TOLD_MAX: int = 8
"""Tenants that are named where somebody asks for one that does not exist."""
