"""Where the clients that are not Python come from: each is installed once, by its own package manager, pinned.

Owns a folder outside of the repository (`$XDG_CACHE_HOME/kraft-clients`), a folder in it for each client and version of
its driver. Invariant: a folder under its final name is whole; two processes that want it make it once. Refuses with
MissingError, whose text a person can act on, where the runtime or the network is not to be had.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

DRIVERS = Path(__file__).parent / "drivers"
INSTALL_S = 600
KCAT_PACKAGES = ("kcat", "librdkafka1", "libyajl2")


class MissingError(Exception):
    """This client can't be had on this machine; the text says what is missing."""


def command_of(name: str) -> list[str]:
    """The command that runs the client's driver, installed where it was not."""
    return _COMMANDS[name]()


def environment_of(name: str) -> dict[str, str]:
    """The driver's environment: the caller's, without what would point a client elsewhere."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("KRAFT_", "KAFKA_"))}
    if name == "kafkajs":
        environment["KAFKAJS_NO_PARTITIONER_WARNING"] = "1"
    return environment


def _python(script: str) -> Callable[[], list[str]]:
    return lambda: [sys.executable, "-P", "-c", _RUN_SCRIPT, str(DRIVERS), str(DRIVERS / script)]


_RUN_SCRIPT = """
import runpy, sys
folder, script = sys.argv[1:3]
sys.argv[:3] = [script]
sys.path.insert(0, folder)
runpy.run_path(script, run_name="__main__")
"""
"""`-P` keeps the working directory out; the drivers' folder is the one that a driver may import from."""


def _kcat() -> list[str]:
    """The one on PATH, or Debian's packages, unpacked and not installed."""
    found = shutil.which("kcat")
    if found is None:
        folder = _installed("kcat", [], _unpack_kcat, needs=("apt-get", "dpkg-deb"))
        library = next(folder.glob("usr/lib/*/librdkafka.so.1")).parent
        found = f"{library}:{folder / 'usr/bin/kcat'}"
    return [*_python("kcat_driver.py")(), found]


def _unpack_kcat(folder: Path) -> None:
    _run(["apt-get", "download", "-q", *KCAT_PACKAGES], folder)
    for package in folder.glob("*.deb"):
        _run(["dpkg-deb", "-x", str(package), str(folder)], folder)


def _kafkajs() -> list[str]:
    folder = _installed(
        "kafkajs", ["package.json", "package-lock.json", "driver.js"], _npm_install, needs=("node", "npm")
    )
    return ["node", str(folder / "driver.js")]


def _npm_install(folder: Path) -> None:
    _run(["npm", "ci", "--no-audit", "--no-fund", "--silent"], folder)


def _franz_go() -> list[str]:
    folder = _installed("franz-go", ["go.mod", "go.sum", "main.go"], _go_build, needs=("go",))
    return [str(folder / "driver")]


def _go_build(folder: Path) -> None:
    _run(["go", "build", "-o", "driver", "."], folder)


def _java() -> list[str]:
    folder = _installed("java", ["pom.xml", "Driver.java"], _maven_copy, needs=("java", "javac", "mvn"))
    return ["java", "-XX:+UseSerialGC", "-Xmx256m", "-cp", f"{folder / 'lib/*'}:{folder}", "Driver"]


def java_tools() -> list[str]:
    """Java with the class path of Kafka's own command-line tools."""
    return _java()[:-1]


def _maven_copy(folder: Path) -> None:
    _run(["mvn", "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=lib"], folder)
    _run(["javac", "-nowarn", "-cp", "lib/*", "Driver.java"], folder)


_COMMANDS: dict[str, Callable[[], list[str]]] = {
    "confluent-kafka": _python("confluent_kafka_driver.py"),
    "aiokafka": _python("aiokafka_driver.py"),
    "kafka-python": _python("kafka_python_driver.py"),
    "kcat": _kcat,
    "kafkajs": _kafkajs,
    "franz-go": _franz_go,
    "java": _java,
}


def _installed(name: str, files: list[str], install: Callable[[Path], None], *, needs: tuple[str, ...]) -> Path:
    """The folder of a client whose driver consists of these files of `drivers/<name>`."""
    for program in needs:
        if shutil.which(program) is None:
            raise MissingError(f"{name} needs {program}, which is not on PATH")
    source = DRIVERS / name
    content = hashlib.sha256(b"".join((source / file).read_bytes() for file in files))
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "kraft-clients")
    folder = base / f"{name}-{content.hexdigest()[:16]}"
    base.mkdir(parents=True, exist_ok=True)
    with (base / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            making = base / f"{name}.making"
            shutil.rmtree(making, ignore_errors=True)
            making.mkdir()
            for file in files:
                shutil.copy(source / file, making / file)
            install(making)
            making.rename(folder)
    return folder


def _run(command: list[str], folder: Path) -> None:
    try:
        ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=INSTALL_S)
    except subprocess.TimeoutExpired:
        raise MissingError(f"`{' '.join(command)}` took longer than {INSTALL_S} s") from None
    if ended.returncode != 0:
        last = (ended.stderr.strip() or ended.stdout.strip())[-500:]
        raise MissingError(f"`{' '.join(command)}` failed; does it reach its registry? {last}")
