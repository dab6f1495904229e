"""image-contract.py ARCHIVE PROGRAM VERSION: is the image in ARCHIVE what operators are promised? Prints what is wrong."""

import gzip
import io
import json
import posixpath
import sys
import tarfile

# Compressed, as a registry sends it.
BUDGET = 25 * 1024 * 1024
# 1980, before which zip knows no time: nixpkgs' builds take it for theirs.
EPOCH = 315532800
SHELLS = {"ash", "bash", "busybox", "coreutils", "dash", "env", "nix", "sh", "toybox", "zsh"}

archive, program, version = sys.argv[1:]
wrong = []


def expect(true, text):
    if not true:
        wrong.append(text)


with tarfile.open(archive) as outer:
    [manifest] = json.load(outer.extractfile("manifest.json"))
    image = json.load(outer.extractfile(manifest["Config"]))
    layers = [outer.extractfile(name).read() for name in manifest["Layers"]]

config = image["config"]
SECOND = 10**9
for field, value in {
    "User": "65532:65532",
    "WorkingDir": "/",
    "Entrypoint": [program],
    "Cmd": ["serve"],
    "StopSignal": "SIGTERM",
    "ExposedPorts": {"8000/tcp": {}, "9000/tcp": {}},
    "Env": ["CLAVIGER_SERVER__OPS_LISTEN=0.0.0.0:9000", "SSL_CERT_FILE=/etc/ssl/certs/ca-bundle.crt"],
}.items():
    expect(config.get(field) == value, f"{field} is {config.get(field)}, expected {value}")
expect(config["Healthcheck"]["Test"] == ["CMD", program, "healthcheck"], "the health check is not the program's own")
expect(config["Healthcheck"]["Timeout"] > 10 * SECOND, "the health check is ended before it can say why it fails")
labels = config["Labels"]
for label in ("title", "description", "licenses", "version"):
    expect(labels.get(f"org.opencontainers.image.{label}"), f"the label {label} is missing")
expect(labels.get("org.opencontainers.image.version") == version, f"the labelled version is not {version}")
expect(manifest["RepoTags"] == [f"claviger:{version}"], f"the tags are {manifest['RepoTags']}")
expect(image["created"].startswith("1970-01-01T00:00:01"), f"created is {image['created']}, which is no fixed time")

files = {}
for data in layers:
    with tarfile.open(fileobj=io.BytesIO(data)) as layer:
        for member in layer:
            files["/" + member.name.removeprefix("./").strip("/")] = member
            expect(member.mtime <= EPOCH, f"{member.name} has a time of its own")
            expect(not member.mode & 0o6000, f"{member.name} runs with rights of its owner")


def find(path):
    """What is there in the end, all links followed."""
    for _ in range(40):
        path = posixpath.normpath(path)
        member = files.get(path)
        if member is not None:
            if not member.issym():
                return member
            target = member.linkname
            path = target if target.startswith("/") else path.rsplit("/", 1)[0] + "/" + target
            continue
        # A folder above it may be a link.
        parent = path
        while parent not in files and parent != "":
            parent = parent.rsplit("/", 1)[0]
        if parent == "" or not files[parent].issym():
            return None
        path = files[parent].linkname + path[len(parent) :]
    return None


for path in (program, "/bin/claviger"):
    member = find(path)
    expect(member is not None and member.isreg() and member.mode & 0o111, f"{path} is no program")
for path in ("/etc/ssl/certs/ca-bundle.crt", "/etc/passwd", "/etc/group", "/etc/nsswitch.conf"):
    member = find(path)
    expect(member is not None and member.isreg() and member.size > 0, f"{path} is missing")
for path, mode, owner in (("/tmp", 0o1777, 0), ("/var/lib/claviger", 0o700, 65532)):
    member = files.get(path)
    expect(member is not None and member.isdir(), f"{path} is no folder")
    if member is not None:
        expect((member.mode & 0o7777, member.uid) == (mode, owner), f"{path} is {member.mode:o} of {member.uid}")
for path in files:
    if path.rsplit("/", 1)[0].endswith("bin") and path.rsplit("/", 1)[1] in SHELLS:
        expect(False, f"{path} could run other programs")
    expect("rustc" not in path and "/cargo" not in path, f"{path} belongs to the compiler")

size = sum(len(data) for data in layers)
# Without a time in it, which nothing here is to have.
packed = sum(len(gzip.compress(data, 6, mtime=0)) for data in layers)
expect(packed <= BUDGET, f"{packed} bytes are more than the budget of {BUDGET}")
print(f"{len(layers)} layers, {size} bytes, compressed {packed} bytes")
for path, member in sorted(files.items()):
    if member.isreg() and member.mode & 0o111:
        print("program", path)
print("\n".join(f"wrong: {text}" for text in wrong))
sys.exit(bool(wrong))
