# The chart as `helm install` takes it. Its image is the version without a registry, as `nix run .#load-image` brings it; a
# release packages a chart of its own, by .ci/package-chart, that names the released image by its digest.
{
  lib,
  runCommand,
  kubernetes-helm,
}:
let
  inherit ((lib.importTOML ../Cargo.toml).workspace.package) version;
  src = lib.fileset.toSource {
    root = ../helm;
    fileset = ../helm/claviger;
  };
in
runCommand "claviger-chart-${version}" { nativeBuildInputs = [ kubernetes-helm ]; } ''
  export HOME=$TMPDIR
  grep -Fx 'version: ${version}' ${src}/claviger/Chart.yaml
  grep -Fx 'appVersion: "${version}"' ${src}/claviger/Chart.yaml
  helm package ${src}/claviger
  # Helm 3 writes the time of day into the archive.
  tar -xmzf claviger-${version}.tgz
  mkdir $out
  tar --sort=name --mtime=@1 --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX -c claviger |
    gzip -n -9 >$out/claviger-${version}.tgz
''
