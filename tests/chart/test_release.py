"""What a release makes of the chart: .ci/package-chart, in a copy whose changelog and image are made up."""

import os
import pathlib
import shutil
import subprocess
import tarfile

import pytest
import yaml

ROOT = pathlib.Path(__file__).parents[2]
IMAGE = "registry.example.org:5000/team/claviger"
DIGEST = "sha256:" + "0123456789abcdef" * 4
CHANGELOG = """# Changelog

## [Unreleased]

### Added

- What no release has.

## [{version}] - 2026-01-02

### Added

- A thing that needs
  two lines, and "quotes" and a \\ too.

### Fixed

- `Another`.

## [0.0.1] - 2026-01-01

### Added

- What was there before.
"""


@pytest.fixture
def copy(tmp_path):
    root = tmp_path / "copy"
    for name in (".ci", "helm"):
        shutil.copytree(ROOT / name, root / name)
    shutil.copy(ROOT / "Cargo.toml", root)
    version = yaml.safe_load((root / "helm/claviger/Chart.yaml").read_text())["version"]
    (root / "CHANGELOG.md").write_text(CHANGELOG.format(version=version))
    return root


@pytest.fixture
def package(copy, tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "helm").symlink_to(os.environ["HELM"])
    environment = os.environ | {"PATH": f"{tools}:{os.environ['PATH']}", "SOURCE_DATE_EPOCH": "1700000000"}

    def run(image=IMAGE, digest=DIGEST, folder="dist"):
        return subprocess.run(
            [copy / ".ci/package-chart", image, digest, tmp_path / folder],
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip

    return run


def packaged(done):
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return pathlib.Path(done.stdout.strip())


def read(package, name):
    with tarfile.open(package) as archive:
        return archive.extractfile(f"claviger/{name}").read().decode()


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_the_package_names_the_image_by_its_digest(package, copy):
    archive = packaged(package())
    before = (copy / "helm/claviger/values.yaml").read_text()
    after = read(archive, "values.yaml")
    changed = [pair for pair in zip(before.splitlines(), after.splitlines(), strict=True) if pair[0] != pair[1]]
    assert changed == [("  repository: claviger", f"  repository: {IMAGE}"), ('  digest: ""', f"  digest: {DIGEST}")]
    annotations = yaml.safe_load(read(archive, "Chart.yaml"))["annotations"]
    assert yaml.safe_load(annotations["artifacthub.io/images"]) == [{"name": "claviger", "image": f"{IMAGE}@{DIGEST}"}]


def test_the_changes_are_those_of_the_version(package):
    annotations = yaml.safe_load(read(packaged(package()), "Chart.yaml"))["annotations"]
    assert yaml.safe_load(annotations["artifacthub.io/changes"]) == [
        {"kind": "added", "description": 'A thing that needs two lines, and "quotes" and a \\ too.'},
        {"kind": "fixed", "description": "`Another`."},
    ]


def test_all_else_is_as_it_was(package, copy):
    with tarfile.open(packaged(package())) as archive:
        names = {each.name.removeprefix("claviger/") for each in archive.getmembers() if each.isfile()}
    chart = copy / "helm/claviger"
    assert names == {str(each.relative_to(chart)) for each in chart.rglob("*") if each.is_file()}


def test_a_second_package_is_the_same(package):
    first, second = packaged(package(folder="first")), packaged(package(folder="second"))
    assert first.read_bytes() == second.read_bytes()
    assert first.stat().st_mtime == second.stat().st_mtime == 1700000000


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"image": "claviger"}, "'claviger' is no name of an image with its registry"),
        ({"image": f"{IMAGE}:1.0"}, "without a tag"),
        ({"digest": "sha256:0"}, "'sha256:0' is no digest"),
    ],
)
def test_what_is_no_image_is_refused(package, arguments, says):
    done = package(**arguments)
    assert done.returncode == 1
    assert says in done.stderr


@pytest.mark.parametrize(
    ("file", "old", "new", "says"),
    [
        ("helm/claviger/Chart.yaml", "\nversion: ", "\nversion: 9", "version in helm/claviger/Chart.yaml is '9"),
        ("helm/claviger/Chart.yaml", '\nappVersion: "', '\nappVersion: "9', "appVersion in helm/claviger/Chart.yaml is '9"),
        ("helm/claviger/Chart.yaml", "artifacthub.io/images:", "artifacthub.io/others:", "artifacthub.io/images"),
        ("helm/claviger/Chart.yaml", "artifacthub.io/changes:", "artifacthub.io/others:", "artifacthub.io/changes"),
        ("helm/claviger/values.yaml", "\n  repository: claviger\n", "\n  repository: other\n", "'  repository: claviger'"),
        ("helm/claviger/values.yaml", '\n  digest: ""\n', "\n  digest: null\n", "'  digest: \"\"'"),
        ("helm/claviger/values.yaml", "\nimage:\n", "\nimage: # of the service\n", "values.yaml: below 'image:'"),
        ("helm/claviger/templates/_helpers.tpl", "@{{ $image.digest }}", ":latest", ":latest', and not"),
        ("CHANGELOG.md", "\n- ", "\n* ", "CHANGELOG.md has no list of changes"),
        ("CHANGELOG.md", "] - 2026-01-02", "]", "CHANGELOG.md has no heading"),
    ],
)
def test_what_does_not_fit_is_refused(package, copy, file, old, new, says):
    edit(copy / file, old, new)
    done = package()
    assert done.returncode == 1
    assert says in done.stderr
    assert done.stdout == ""
