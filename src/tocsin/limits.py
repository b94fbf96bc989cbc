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
