# What the Makefile and its scripts call, so that `nix develop` followed by any `make` target just works.
{
  lib,
  stdenv,
  pkgs,
  mkShell,
  claviger,
}:
let
  testPython = pkgs.python3.withPackages (python: [
    python.authlib
    python.redis
    python.requests
  ]);
in
mkShell {
  inputsFrom = [ claviger ];

  packages =
    (with pkgs; [
      # Rust, beside rustc and cargo
      cargo-deny
      clippy
      rust-analyzer
      rustfmt
      watchexec

      # The servers that tests and `make dev` start
      caddy
      haproxy
      nginx
      postgresql
      prometheus
      redis

      # Containers and clusters. Their engine is the machine's own.
      docker-client
      docker-compose
      kind
      kubectl
      kubernetes-helm

      # Lints
      deadnix
      hadolint
      shellcheck
      zizmor

      # The rest of what scripts call
      curl
      git
      gnumake
      jq
      nodejs
      python3
    ])
    ++ [
      # promtool
      (lib.getOutput "cli" pkgs.prometheus)
    ]
    # What the Makefile fetches, or does without, where it is not installed. So a nixpkgs that has no such name costs
    # time and nothing else.
    ++ map (name: pkgs.${name}) (
      lib.filter (name: pkgs ? ${name}) [
        "actionlint"
        "check-jsonschema"
        "ruff"
        "squawk"
      ]
    )
    ++ lib.optionals stdenv.hostPlatform.isLinux (
      with pkgs;
      [
        iproute2
        procps
      ]
    );

  # For rust-analyzer.
  env.RUST_SRC_PATH = "${pkgs.rustPlatform.rustLibSrc}";
  # For `make test`, which would fetch them elsewhere.
  env.TEST_OAUTH_PYTHON = "${testPython}/bin/python3";
  env.TEST_CONSUMER_PYTHON = "${testPython}/bin/python3";
}
