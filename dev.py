"""Set-up and daily chores, with the standard library alone: `python3 dev.py --help`.

The environment in .venv is made from requirements/dev.txt, hash by hash. What is tested is
the wheel built from this tree and installed there, never the tree itself.
"""

from __future__ import annotations

import sys

if sys.version_info < (3, 11):
    sys.exit("dev.py needs Python 3.11 or newer; this is {}.{}.".format(*sys.version_info))

import contextlib
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")
LOCK = ROOT / "requirements" / "dev.txt"
LOCK_STAMP = VENV / ".tocsin-lock"
WHEEL_STAMP = VENV / ".tocsin-wheel"
ATHERIS = VENV / "fuzz"
ATHERIS_REQUIREMENT = "atheris==3.0.0"
WHEEL_SOURCES = ("src", "pyproject.toml", "README.md", "LICENSE")

LEFTOVERS = (
    ".coverage",
    ".hypothesis",
    ".import_linter_cache",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    ".venv",
    "build",
    "dist",
    "htmlcov",
    "mutants",
)

# Paths of one machine, such as a home folder or a scratch folder, in a file that others read.
MACHINE_PATH = re.compile(
    r"(?<![\w.~$})/-])/(?:home|Users|root|tmp|var/folders|work|workspaces?)/[\w.-]"
    r"|\b[A-Za-z]:\\Users\\"
)

# pytest: no test was collected.
NOTHING_COLLECTED = 5

Command = Sequence[str | Path]


class Failed(Exception):  # noqa: N818 - it is the exit of a command, not an error of ours
    """A command ended with a status other than 0."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


# ------------------------------------------------------------------------------ running commands


def environment() -> dict[str, str]:
    """Return the environment of every command: .venv first, nothing of ours on the path."""
    env = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "PYTHONHOME"}}
    env["PATH"] = os.pathsep.join([str(BIN), env.get("PATH", os.defpath)])
    env["VIRTUAL_ENV"] = str(VENV)
    env["PYTHONNOUSERSITE"] = "1"
    env["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
    env.setdefault("MPLBACKEND", "Agg")
    return env


def say(text: str, end: str = "\n") -> None:
    """Print at once, so that our lines and those of commands keep their order."""
    print(text, end=end, flush=True)


def quiet(
    title: str,
    command: Command,
    *,
    allowed: Sequence[int] = (0,),
    extra_env: dict[str, str] | None = None,
) -> str:
    """Run a command in one line of output, and show what it wrote only if it fails."""
    say(f"{title} ...", end="")
    start = time.monotonic()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [str(part) for part in command],
            cwd=ROOT,
            env=environment() | (extra_env or {}),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            code = wait_with_dots(process)
        except BaseException:
            process.kill()
            process.wait()
            raise
        log.seek(0)
        output = log.read().decode(errors="replace")
    if code not in allowed:
        say(f" failed after {time.monotonic() - start:.1f} s")
        say(output.rstrip())
        failed(command, code)
    say(f" {time.monotonic() - start:.1f} s")
    return output


def wait_with_dots(process: subprocess.Popen[bytes]) -> int:
    """Wait for a process, with a dot every five seconds as a sign of life."""
    while True:
        try:
            return process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            say(".", end="")


def live(title: str, command: Command) -> None:
    """Run a command whose output is the point, and let it through."""
    say(f"{title} ...")
    start = time.monotonic()
    code = subprocess.run(
        [str(part) for part in command], cwd=ROOT, env=environment(), check=False
    ).returncode
    if code != 0:
        failed(command, code)
    say(f"{title.partition(':')[0]}: {time.monotonic() - start:.1f} s")


def failed(command: Command, code: int) -> NoReturn:
    """Say which command failed, and end with its status."""
    words = [str(part).removeprefix(f"{ROOT}{os.sep}") for part in command]
    say(f"failed (exit code {code}): {shlex.join(words)}")
    # A negative status is a signal; a shell would report it so.
    raise Failed(code if code > 0 else 128 - code)


# --------------------------------------------------------------------- the environment, the wheel


def digest(paths: Iterator[Path]) -> str:
    """Return one SHA-256 over the names and contents of files."""
    total = hashlib.sha256()
    for path in sorted(paths):
        content = path.read_bytes()
        total.update(f"{path.relative_to(ROOT).as_posix()}\0{len(content)}\0".encode())
        total.update(content)
    return total.hexdigest()


def wheel_files() -> Iterator[Path]:
    """Yield the files that the wheel is made of."""
    for name in WHEEL_SOURCES:
        path = ROOT / name
        if path.is_file():
            yield path
        else:
            yield from (
                file
                for file in path.rglob("*")
                if file.is_file() and "__pycache__" not in file.parts
            )


def stamp_is(stamp: Path, value: str) -> bool:
    """Tell whether a stamp holds a value."""
    return stamp.is_file() and stamp.read_text(encoding="utf-8") == value


def need_venv() -> None:
    """End with advice where this Python cannot make an environment."""
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError as error:
        sys.exit(
            f"This Python has no '{error.name}' module, which makes environments. "
            "Install it (on Debian and Ubuntu: python3-venv) and try again."
        )


def make_venv(folder: Path) -> None:
    """Make an empty environment with this Python, or with the one behind it."""
    need_venv()
    base = getattr(sys, "_base_executable", sys.executable)
    quiet("environment: make it", [base, "-m", "venv", "--clear", folder])


def ensure_venv() -> None:
    """Install the lock into .venv, unless exactly this lock is there already."""
    if not LOCK.is_file():
        sys.exit("requirements/dev.txt is missing: make it with `python3 dev.py lock`.")
    wanted = "{} {}.{}".format(digest(iter([LOCK])), *sys.version_info[:2])
    if PYTHON.exists() and stamp_is(LOCK_STAMP, wanted):
        return
    make_venv(VENV)
    quiet(
        "environment: install the locked packages (a minute or two, once)",
        [PYTHON, "-m", "pip", "install", "--require-hashes", "--no-input", "-r", LOCK],
    )
    LOCK_STAMP.write_text(wanted, encoding="utf-8")


def ensure_wheel() -> None:
    """Build the wheel and install it into .venv, unless exactly these sources are there already."""
    ensure_venv()
    wanted = digest(wheel_files())
    if stamp_is(WHEEL_STAMP, wanted):
        return
    WHEEL_STAMP.unlink(missing_ok=True)
    pip: Command = [PYTHON, "-m", "pip", "--no-input"]
    with tempfile.TemporaryDirectory(prefix="tocsin-dist-") as folder:
        quiet(
            "wheel: build it from this tree",
            [*pip, "wheel", ".", "--no-deps", "--no-build-isolation", "--no-index", "-w", folder],
        )
        (wheel,) = Path(folder).glob("tocsin-*.whl")
        quiet(
            "wheel: install it",
            [*pip, "install", "--no-deps", "--no-index", "--force-reinstall", wheel],
        )
    WHEEL_STAMP.write_text(wanted, encoding="utf-8")


def installed_package() -> Path:
    """Return the folder of the installed package, which must be inside .venv."""
    command: Command = [PYTHON, "-P", "-c", "import tocsin; print(tocsin.__path__[0])"]
    result = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False
    )
    if result.returncode != 0:
        say(result.stderr.rstrip())
        failed(command, result.returncode)
    folder = Path(result.stdout.strip())
    if not folder.resolve().is_relative_to(VENV.resolve()):
        sys.exit(f"`import tocsin` gives {folder}, which is not the wheel installed in .venv.")
    return folder


# --------------------------------------------------------------------------------------- commands


def demo(args: Sequence[str]) -> None:
    """Run `tocsin serve --demo` from the installed wheel."""
    ensure_wheel()
    live("demo: run `tocsin serve --demo`", [BIN / "tocsin", "serve", "--demo", *args])


def test(args: Sequence[str]) -> None:
    """Run the doctests and the tests; with arguments, pytest on tests/ with these."""
    ensure_wheel()
    package = installed_package()
    pytest: Command = [PYTHON, "-m", "pytest", "-c", "pyproject.toml", "--rootdir", "."]
    if not args:
        # Alembic runs migrations' env.py within a context of its own; nobody else can import it.
        doctests: Command = [
            "-q", "-p", "no:randomly", "-p", "no:cacheprovider", "--ignore-glob=*/migrations/env.py"
        ]  # fmt: skip
        output = quiet(
            "doctests: run the examples of the installed package",
            [*pytest, *doctests, "--doctest-modules", package],
            allowed=(0, NOTHING_COLLECTED),
        )
        say("doctests: " + output.rstrip().rpartition("\n")[2].strip("= "))
    live("tests: run pytest on the installed package", [*pytest, "-n", "2", *args])


def lint(args: Sequence[str]) -> None:
    """Check style, types, import floors and machine paths; `--fix` mends what it can first."""
    if list(args) not in ([], ["--fix"]):
        sys.exit("usage: python3 dev.py lint [--fix]")
    ensure_venv()
    if args:
        quiet("ruff: mend what it can", [BIN / "ruff", "check", "--fix-only", "--quiet", "."])
        quiet("ruff: format", [BIN / "ruff", "format", "--quiet", "."])
    in_tree = {"PYTHONPATH": str(ROOT / "src")}
    stages: list[Callable[[], object]] = [
        lambda: quiet("ruff: check the code", [BIN / "ruff", "check", "."]),
        lambda: quiet("ruff: check the format", [BIN / "ruff", "format", "--check", "."]),
        lambda: quiet("mypy: check the types", [BIN / "mypy"]),
        lambda: quiet(
            "import-linter: check who imports whom", [BIN / "lint-imports"], extra_env=in_tree
        ),
        check_files,
    ]
    codes = []
    for stage in stages:
        try:
            stage()
        except Failed as failure:
            codes.append(failure.code)
    if codes:
        raise Failed(codes[0])


def check_files() -> None:
    """Check that no file of the repository names a path of one machine, and no lock a URL."""
    title = "files: look for paths of one machine"
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listing = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        say(f"{title} ... left out, for this is not a git repository")
        return
    start = time.monotonic()
    found = []
    for name in sorted(filter(None, listing.decode().split("\0"))):
        path = ROOT / name
        content = path.read_bytes() if path.is_file() else b""
        if b"\0" in content:
            continue
        for number, line in enumerate(content.decode(errors="replace").splitlines(), start=1):
            url_in_lock = name.startswith("requirements/") and "://" in line
            if url_in_lock or MACHINE_PATH.search(line):
                found.append(f"{name}:{number}: {line.strip()}")
    say(f"{title} ... {'failed after ' if found else ''}{time.monotonic() - start:.1f} s")
    if found:
        say("\n".join(found))
        say("failed: these lines hold only on one machine")
        raise Failed(1)


def check(args: Sequence[str]) -> None:
    """Run `test`, then `lint`."""
    no_arguments("check", args)
    test([])
    lint([])


def lock(args: Sequence[str]) -> None:
    """Resolve requirements/dev.txt again with uv; `--upgrade` takes newer versions."""
    with contextlib.ExitStack() as stack:
        uv = shutil.which("uv", path=environment()["PATH"])
        if uv is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tocsin-uv-")))
            make_venv(folder)
            python = folder / PYTHON.relative_to(VENV)
            quiet("uv: install it for this once", [python, "-m", "pip", "install", "-q", "uv"])
            uv = str(folder / BIN.name / "uv")
        LOCK.parent.mkdir(exist_ok=True)
        command = [uv, "pip", "compile", "pyproject.toml", "--all-extras", "--group", "dev"]
        command += ["--universal", "--generate-hashes", "--no-emit-index-url"]
        command += ["--python-version", "3.11", "--python", sys.executable]
        command += ["--custom-compile-command", "python3 dev.py lock"]
        command += ["--quiet", "--output-file", LOCK.relative_to(ROOT).as_posix(), *args]
        quiet("lock: resolve requirements/dev.txt", command)
    if "://" in LOCK.read_text(encoding="utf-8"):
        sys.exit("requirements/dev.txt names a URL: it would install on this machine only.")


def bench(args: Sequence[str]) -> None:
    """Run benchmarks/run.py against the installed wheel."""
    script = ROOT / "benchmarks" / "run.py"
    if not script.is_file():
        sys.exit("benchmarks/run.py is missing.")
    ensure_wheel()
    live("benchmarks: run benchmarks/run.py", [PYTHON, script, *args])


def ensure_atheris() -> None:
    """Install atheris beside the lock: only `fuzz` needs it, and few platforms have a wheel."""
    if stamp_is(ATHERIS / "requirement", ATHERIS_REQUIREMENT):
        return
    shutil.rmtree(ATHERIS, ignore_errors=True)
    try:
        quiet(
            f"fuzz: install {ATHERIS_REQUIREMENT}, once",
            [PYTHON, "-m", "pip", "--no-input", "install", "--no-deps", "--only-binary", ":all:",
             "--target", ATHERIS, ATHERIS_REQUIREMENT],
        )  # fmt: skip
    except Failed:
        say(
            f"{ATHERIS_REQUIREMENT} has wheels for few platforms; Linux on x86-64 is one of them. "
            "Without it, `python3 dev.py test -k fuzz` runs the same targets on seeded inputs."
        )
        raise
    (ATHERIS / "requirement").write_text(ATHERIS_REQUIREMENT, encoding="utf-8")


def fuzz(args: Sequence[str]) -> None:
    """Run a fuzz target, or each of them, with atheris."""
    targets = sorted(path.name for path in (ROOT / "fuzz" / "corpus").iterdir())
    names, runs, more = [name for name in args[:1] if name in targets], "20000", list(args)
    del more[: len(names)]
    if more[:1] == ["--runs"] and len(more) > 1 and more[1].isdecimal():
        runs, more = more[1], more[2:]
    if not all(one.startswith("-") and one[1:2] != "-" for one in more):
        sys.exit(
            "usage: python3 dev.py fuzz [NAME] [--runs N] [-OPTION=VALUE of libFuzzer ...]\n"
            f"names: {', '.join(targets)}"
        )
    ensure_wheel()
    ensure_atheris()
    for name in names or targets:
        live(f"fuzz {name}: {runs} runs", [PYTHON, "-m", "fuzz", name, runs, *more])


def mutate(args: Sequence[str]) -> None:
    """Mutate the bounds, the threshold and the monitor, and list the mutants that survive."""
    ensure_wheel()
    live("mutants: run the tests on each (long)", [BIN / "mutmut", "run", *args])
    live("mutants: those that survived", [BIN / "mutmut", "results"])


def clean(args: Sequence[str]) -> None:
    """Remove .venv, build outputs and caches."""
    no_arguments("clean", args)
    start = time.monotonic()
    caches = (
        path
        for folder in ("src", "tests", "benchmarks")
        for path in (ROOT / folder).rglob("__pycache__")
    )
    for path in [*(ROOT / name for name in LEFTOVERS), *caches, ROOT / "__pycache__"]:
        if path.is_symlink() or path.is_file():
            path.unlink()
        elif path.is_dir():
            shutil.rmtree(path)
    say(f"clean: remove .venv, build outputs and caches ... {time.monotonic() - start:.1f} s")


def no_arguments(name: str, args: Sequence[str]) -> None:
    """End with the usage where a command was given arguments that it does not take."""
    if args:
        sys.exit(f"usage: python3 dev.py {name}")


COMMANDS: dict[str, tuple[Callable[[Sequence[str]], None], str]] = {
    "demo": (demo, "see it work: `tocsin serve --demo` from the wheel (arguments are passed on)"),
    "test": (test, "doctests and tests on the wheel (arguments go to pytest: -k bounds -x)"),
    "lint": (lint, "ruff, mypy, import-linter, no paths of one machine (--fix mends first)"),
    "check": (check, "test, then lint: what must pass before a change goes in"),
    "lock": (lock, "resolve requirements/dev.txt again with uv (--upgrade for newer versions)"),
    "bench": (bench, "run benchmarks/run.py on the wheel (arguments are passed on)"),
    "fuzz": (fuzz, "fuzz what reads strangers' bytes, with atheris ([NAME] [--runs N])"),
    "mutate": (mutate, "mutation tests of the bounds, threshold and monitor (arguments: mutmut)"),
    "clean": (clean, "remove .venv, build outputs and caches"),
}


def usage() -> str:
    """Return the listing of commands."""
    lines = [f"  {name:8}{text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(["usage: python3 dev.py COMMAND [ARGUMENT ...]", "", *lines])


def main(argv: Sequence[str]) -> int:
    """Run one command and return its exit status."""
    if not argv or argv[0] in {"-h", "--help", "help"}:
        say(usage())
        return 0 if argv else 2
    name, *args = argv
    if name not in COMMANDS:
        say(f"unknown command: {name}\n\n{usage()}")
        return 2
    try:
        COMMANDS[name][0](args)
    except Failed as failure:
        return failure.code
    except KeyboardInterrupt:
        say("\ninterrupted")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
