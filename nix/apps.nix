# What `nix run .#NAME` starts.
{ pkgs, packages }:
let
  inherit (pkgs) lib stdenv writeShellApplication;

  app = description: program: {
    type = "app";
    program = lib.getExe program;
    meta = { inherit description; };
  };

  migrate = writeShellApplication {
    name = "claviger-migrate";
    text = ''
      exec ${lib.getExe packages.claviger} migrate "''${@:-up}"
    '';
  };

  load-image = writeShellApplication {
    name = "claviger-load-image";
    text = ''
      engine=''${CONTAINER_ENGINE:-}
      for candidate in docker podman; do
        if [ -z "$engine" ] && command -v "$candidate" >/dev/null; then
          engine=$candidate
        fi
      done
      if [ -z "$engine" ]; then
        echo "load-image: neither docker nor podman is in PATH: install one, or name another in CONTAINER_ENGINE." >&2
        exit 1
      fi
      ${packages.image} | "$engine" load
    '';
  };
in
{
  default = app "The service" packages.claviger;
  migrate = app "Goes to the latest version of the database schema, or to the one that is given" migrate;
}
// lib.optionalAttrs stdenv.hostPlatform.isLinux {
  load-image = app "Gives the image to docker or podman" load-image;
}
