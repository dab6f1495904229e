# `nix flake check`. Those of the code are the commands of `make lint` and `make test`.
{
  pkgs,
  nixosSystem,
  chart,
  claviger,
  image,
  module,
}:
let
  inherit (pkgs) lib stdenv runCommand;

  inherit (lib.fileset)
    difference
    maybeMissing
    toSource
    unions
    ;

  rulesTest = ../tests/chart/rules.test.yml;

  # The tests read documents and configuration files too, and the chart's rules and dashboard. What has a check of its own
  # is left out, so that a change of it does not run them again.
  src = toSource {
    root = ../.;
    fileset = difference ../. (
      unions [
        ./.
        ../flake.nix
        ../flake.lock
        ../.ci
        ../.github
        (difference ../helm ../helm/claviger/files)
        (difference ../tests/chart rulesTest)
        (maybeMissing ../examples/kubernetes)
        (maybeMissing ../k8s)
        (maybeMissing ../tests/kubernetes)
      ]
    );
  };

  cargoCheck =
    {
      name,
      inputs ? [ ],
      command,
    }:
    stdenv.mkDerivation {
      pname = "claviger-${name}";
      inherit (claviger) version cargoDeps;
      inherit src;
      nativeBuildInputs = [
        pkgs.cargo
        pkgs.rustc
        pkgs.rustPlatform.cargoSetupHook
      ]
      ++ inputs;
      buildPhase = ''
        runHook preBuild
        ${command}
        runHook postBuild
      '';
      installPhase = "touch $out";
    };

  testPython = pkgs.python3.withPackages (python: [
    python.authlib
    python.redis
    python.requests
  ]);

  # Evaluates a machine with the module, as far as the assertions and what is asked of it.
  machine =
    modules:
    (nixosSystem {
      inherit (stdenv.hostPlatform) system;
      modules = [
        module
        {
          # A container has no disks and no boot loader to be asked for.
          boot.isContainer = true;
          system.stateVersion = "26.05";
        }
      ]
      ++ modules;
    }).config;
  sample = machine [ ./module-sample.nix ];
  unit = sample.systemd.services.claviger.serviceConfig;

  refusals =
    settings:
    lib.filter (lib.hasPrefix "services.claviger.") (
      map (a: a.message) (lib.filter (a: !a.assertion) (machine [ { services.claviger = settings; } ]).assertions)
    );
  # The beginning of what is said to a configuration; null: it is accepted.
  case = says: settings: {
    inherit says;
    settings = {
      enable = true;
    }
    // settings;
  };
  accepted = case null;
  inStore = case "services.claviger.environmentFile would be in the Nix store";
  holdsPassword =
    settings: case "services.claviger.settings holds a password" { inherit settings; };
  cases = [
    (accepted { })
    (accepted {
      environmentFile = "/run/secrets/claviger.env";
      settings.database.url = "postgres://claviger@db.example.org/claviger";
      settings.tokens.url_file = "/run/secrets/redis-url";
      settings.clients.gate.secret_file = "/run/secrets/gate";
    })
    (inStore { environmentFile = "${builtins.storeDir}/claviger.env"; })
    (inStore { environmentFile = ./checks.nix; })
    (holdsPassword { bootstrap.password = "correct horse battery"; })
    (holdsPassword { database.url = "postgres://claviger:secret@db.example.org/claviger"; })
    (holdsPassword { database.url = "postgres://claviger@db.example.org/claviger?password=secret"; })
    (holdsPassword { tokens.url = "redis://:secret@redis.example.org:6379/0"; })
    (holdsPassword { clients.gate.secret = "correct horse battery staple"; })
    (holdsPassword { tokens.url = "redis+sentinel://:secret@redis.example.org:26379/main/0"; })
    (case "services.claviger.settings.database names a database" {
      database.createLocally = true;
      settings.database.url = "postgres://claviger@db.example.org/claviger";
    })
    (case "services.claviger.settings.tokens names a token store" {
      redis.createLocally = true;
      settings.tokens.url = "redis://redis.example.org:6379/0";
    })
  ];
  wrong = lib.filter (
    case:
    let
      said = refusals case.settings;
    in
    if case.says == null then said != [ ] else !(lib.length said == 1 && lib.hasPrefix case.says (lib.head said))
  ) cases;
in
{
  clippy = cargoCheck {
    name = "clippy";
    inputs = [ pkgs.clippy ];
    command = "cargo clippy --workspace --all-targets --frozen -- -D warnings";
  };

  fmt = cargoCheck {
    name = "fmt";
    inputs = [ pkgs.rustfmt ];
    command = "cargo fmt --all --check";
  };

  doc = cargoCheck {
    name = "doc";
    command = ''
      RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --frozen
    '';
  };

  # tests/run finds the servers in PATH, and starts them in the sandbox. The example for Node.js is left out: nixpkgs has no
  # client of Redis for it. `make test` runs it.
  tests = cargoCheck {
    name = "tests";
    inputs = [
      pkgs.caddy
      pkgs.haproxy
      pkgs.nginx
      pkgs.postgresql
      pkgs.redis
    ];
    command = ''
      export SSL_CERT_FILE=${pkgs.cacert}/etc/ssl/certs/ca-bundle.crt
      export TEST_OAUTH_PYTHON=${testPython}/bin/python3 TEST_CONSUMER_PYTHON=${testPython}/bin/python3
      export TEST_NODE=left-out TEST_NODE_MODULES=left-out
      bash tests/run --offline -- --skip Language__Nodejs
    '';
  };

  # Made twice, and the same to the byte.
  image = runCommand "claviger-image-contract" { nativeBuildInputs = [ pkgs.python3 ]; } ''
    ${image} >first.tar
    ${image} >second.tar
    cmp first.tar second.tar
    python3 ${./image-contract.py} first.tar ${lib.getExe claviger} ${claviger.version}
    touch $out
  '';

  # With each of the values that tests/chart renders. What else is tested there needs the network.
  chart =
    let
      rules = toSource {
        root = ../.;
        fileset = unions [
          ../helm/claviger/files/rules.yml
          rulesTest
        ];
      };
    in
    runCommand "claviger-chart-check"
      {
        nativeBuildInputs = [
          pkgs.kubernetes-helm
          # promtool
          (lib.getOutput "cli" pkgs.prometheus)
        ];
      }
      ''
        export HOME=$TMPDIR
        for values in ${../tests/chart/values}/*.yaml; do
          helm lint --strict --values "$values" ${chart}/*.tgz
          helm template claviger ${chart}/*.tgz --values "$values" >/dev/null
        done
        promtool check rules ${rules}/helm/claviger/files/rules.yml
        promtool test rules ${rules}/tests/chart/rules.test.yml
        touch $out
      '';

  module =
    assert lib.assertMsg (
      wrong == [ ]
    ) "the module answers these otherwise than expected: ${builtins.toJSON (map (case: case.settings) wrong)}";
    assert lib.assertMsg (
      refusals sample.services.claviger == [ ]
    ) "nix/module-sample.nix does not fit the module";
    # Building it checks the settings of the sample, since the commands name the checked file.
    runCommand "claviger-module"
      {
        start = unit.ExecStart;
        before = lib.concatStringsSep "\n" unit.ExecStartPre;
      }
      ''
        case $start in *claviger-checked.toml\ serve) ;; *) exit 1 ;; esac
        case $before in *claviger-checked.toml\ migrate\ up) ;; *) exit 1 ;; esac
        config=''${start#*--config }
        config=''${config% serve}
        grep -F trusted_proxies "$config"
        grep -F '"127.0.0.1:8000"' "$config"
        touch $out
      '';

  vm = pkgs.testers.runNixOSTest (import ./vm-test.nix module);
}
