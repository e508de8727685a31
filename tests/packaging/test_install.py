"""What somebody gains who installs Kraft beside their own project, and what an edit of the checkout does.

Everything happens in a copy of the checkout and in virtual environments of its own, without a network: the installed
dependencies are those that run this test, lent by one `.pth` line.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent.parent
ROOMS = {"api", "broker", "cli", "kraft", "logstore", "metadata", "wire"}
DEPENDENCIES = sysconfig.get_path("purelib")


def run(*command: str | Path, cwd: Path, **extra_environment: str) -> str:
    """Run it in a clean environment; the output, or a failure that shows it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PIP_", "KAFKA_"))}
    environment = kept | {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "NO_COLOR": "1"} | extra_environment
    ended = subprocess.run(
        command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert 0 == ended.returncode, f"{' '.join(map(str, command))}\n{ended.stdout}"
    return ended.stdout


def pip(*arguments: str | Path, cwd: Path) -> str:
    return run(sys.executable, "-m", "pip", *arguments, cwd=cwd)


def environment_with_dependencies(folder: Path) -> Path:
    """A virtual environment that sees the dependencies, but nothing of this checkout's own editable install."""
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    site_packages = next(folder.glob("lib/python3*/site-packages"))
    (site_packages / "dependencies.pth").write_text(DEPENDENCIES + "\n")
    return folder


def install(environment: Path, *what: str | Path) -> None:
    python = environment / "bin/python"
    options = ["--no-deps", "--no-index", "--no-build-isolation", "--quiet"]
    pip("--python", python, "install", *options, *what, cwd=environment)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    copy = tmp_path / "checkout"
    copy.mkdir()
    for name in sorted(ROOMS | {"scripts"}):
        shutil.copytree(PROJECT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(PROJECT / name, copy / name)
    return copy


def build_wheel(source: Path, into: Path) -> Path:
    pip("wheel", "--no-deps", "--no-index", "--no-build-isolation", "--quiet", "-w", into, source, cwd=into.parent)
    (wheel,) = into.glob("*.whl")
    return wheel


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if ".dist-info/" not in name}


def project_with_rooms_of_its_own(folder: Path) -> Path:
    """Somebody's application whose packages are called as ours are."""
    for room in ROOMS:
        (folder / room).mkdir(parents=True)
        (folder / room / "__init__.py").write_text(f"OWNER = 'the other project: {room}'\n")
    (folder / "application.py").write_text("import api, metadata\nprint(api.OWNER, '|', metadata.OWNER)\n")
    return folder


def test_the_wheel_brings_one_top_level_name(checkout, tmp_path):
    wheel = build_wheel(checkout, tmp_path / "dist")
    with zipfile.ZipFile(wheel) as archive:
        top_level = {name.split("/")[0] for name in archive.namelist()}
    assert {"kraft_bundle", wheel.name.removesuffix("-py3-none-any.whl") + ".dist-info"} == top_level
    carried = set(contents(wheel))
    for room in ROOMS:
        for file in (checkout / room).rglob("*.py"):
            assert f"kraft_bundle/{file.relative_to(checkout)}" in carried


def test_the_wheel_from_the_source_archive_is_the_same(checkout, tmp_path):
    run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", tmp_path / "sdist", cwd=checkout)
    (archive,) = (tmp_path / "sdist").glob("*.tar.gz")
    from_archive = build_wheel(archive, tmp_path / "from_archive")
    assert contents(build_wheel(checkout, tmp_path / "direct")) == contents(from_archive)


def test_an_application_with_its_own_api_and_metadata_runs_beside_ours(checkout, tmp_path):
    environment = environment_with_dependencies(tmp_path / "environment")
    install(environment, build_wheel(checkout, tmp_path / "dist"))
    application = project_with_rooms_of_its_own(tmp_path / "application")
    site_packages = next(environment.glob("lib/python3*/site-packages"))
    for room in ROOMS:  # installed beside us, named by PYTHONPATH, and in the folder that everything is started in
        shutil.copytree(application / room, site_packages / room)

    theirs = run(environment / "bin/python", "application.py", cwd=application)
    assert "the other project: api | the other project: metadata" == theirs.strip()

    kraft = environment / "bin/kraft"
    around = {"PYTHONPATH": str(application)}
    assert "Usage: kraft" in run(kraft, "--help", cwd=application, **around)
    data = ["--data-dir", str(tmp_path / "kraft-data")]
    run(kraft, "up", "-n", "1", "--any-port", *data, cwd=application, **around)
    try:
        assert '"node_id"' in run(kraft, "status", "--format", "json", *data, cwd=application, **around)
        shims = Path(run(kraft, "shims", cwd=application, **around).strip())
        assert environment in shims.parents
        listing = [shims / "kafka-topics.sh", "--list", "--exclude-internal"]
        assert "" == run(*listing, cwd=application, KRAFT_DATA_DIR=data[1], **around)
    finally:
        run(kraft, "down", *data, cwd=application, **around)


def test_an_edited_line_of_the_checkout_is_what_runs(checkout, tmp_path):
    environment = environment_with_dependencies(tmp_path / "environment")
    install(environment, "--editable", checkout)
    with (checkout / "cli/main.py").open("a") as file:
        file.write("\n\ndef main():\n    import metadata\n    print('edited', metadata.__file__)\n")
    application = project_with_rooms_of_its_own(tmp_path / "application")
    ours = run(environment / "bin/kraft", cwd=application, PYTHONPATH=str(application))
    assert f"edited {checkout / 'metadata/__init__.py'}" == ours.strip()
