# services.claviger. nix/module-sample.nix is a whole machine with it.
packagesOf:
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.services.claviger;
  format = pkgs.formats.toml { };
  program = lib.getExe cfg.package;
  redis = config.services.redis.servers.claviger;
  redisFolder = "/run/claviger-redis";

  settingsFile = format.generate "claviger.toml" cfg.settings;

  clients = cfg.settings.clients or { };

  # A mistake is found when the machine is built, not when the service starts on it. Secrets are on that machine only:
  # the check does without the keys that name their files, and has a password of its own where one is asked for. A client
  # is nothing without its secret, so those with a file are left out.
  toCheck =
    lib.mapAttrs (
      _: section:
      if lib.isAttrs section then
        lib.filterAttrs (key: _: !(lib.hasSuffix "_file" key)) section
      else
        section
    ) cfg.settings
    // lib.optionalAttrs (clients != { }) {
      clients = lib.filterAttrs (_: client: !(client ? secret_file)) clients;
    };
  checkedFile =
    if pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform then
      pkgs.runCommand "claviger-checked.toml"
        (lib.optionalAttrs (get "bootstrap" "username" != null) {
          # As long as any `password.min_length` that makes sense.
          CLAVIGER_BOOTSTRAP__PASSWORD = lib.concatMapStrings toString (lib.range 1000 1100);
        })
        ''
          ${program} --config ${format.generate "claviger-to-check.toml" toCheck} config check
          cp ${settingsFile} $out
        ''
    else
      settingsFile;

  get = section: key: cfg.settings.${section}.${key} or null;
  # Before the host, or as a parameter, which PostgreSQL knows too.
  hasPassword =
    url:
    url != null
    && (
      builtins.match "[a-z+]+://[^/@]*:[^/@]+@.*" url != null
      || builtins.match ".*[?&]password=.*" url != null
    );

  environment =
    lib.optionalAttrs cfg.database.createLocally {
      # PostgreSQL knows the user by the socket.
      CLAVIGER_DATABASE__URL = "postgres://claviger@localhost/claviger?host=/run/postgresql";
    }
    // lib.optionalAttrs cfg.redis.createLocally {
      CLAVIGER_TOKENS__URL_FILE = "${redisFolder}/url";
    };

  # What the service and the commands that an administrator runs have in common.
  asTheService = {
    User = "claviger";
    Group = "claviger";
    StateDirectory = "claviger";
    StateDirectoryMode = "0700";
    WorkingDirectory = "/var/lib/claviger";
    UMask = "0077";
  }
  // lib.optionalAttrs (cfg.environmentFile != null) { EnvironmentFile = cfg.environmentFile; };

  # `claviger user add alice` on this machine: with the settings, the secrets and the user of the service.
  command = pkgs.writeShellScriptBin "claviger" ''
    exec systemd-run --quiet --collect --wait --pty --pipe --service-type=exec \
      ${
        lib.concatMapStringsSep " \\\n      " (property: "--property=${lib.escapeShellArg property}") (
          lib.mapAttrsToList (key: value: "${key}=${value}") asTheService
          ++ lib.mapAttrsToList (key: value: "Environment=${key}=${value}") environment
        )
      } \
      -- ${program} --config ${checkedFile} "$@"
  '';
in
{
  options.services.claviger = {
    enable = lib.mkEnableOption "Claviger, a login service";

    package = lib.mkPackageOption (packagesOf pkgs) "claviger" {
      pkgsText = "claviger.packages.\${system}";
    };

    settings = mkOption {
      type = types.submodule { freeformType = format.type; };
      default = { };
      example = {
        tokens.ttl = "12h";
        server.trusted_proxies = [ "127.0.0.1" ];
      };
      description = ''
        The configuration file, as `claviger config example` describes it. It is checked when the machine is built, and
        everybody on the machine can read it: secrets belong into `environmentFile`, or into a file of their own that
        a key such as `bootstrap.password_file` names.
      '';
    };

    environmentFile = mkOption {
      type = types.nullOr types.path;
      default = null;
      example = "/run/secrets/claviger.env";
      description = ''
        A file with lines such as `CLAVIGER_BOOTSTRAP__PASSWORD=...`, which win over `settings`. systemd reads it as
        root. It must not be in the Nix store.
      '';
    };

    migrate = mkOption {
      type = types.bool;
      default = true;
      description = ''
        Whether the database goes to the latest version of its schema before the service starts; a database that is
        ahead is left as it is. `settings.database.schema_version`, if it is set, decides instead.
      '';
    };

    database.createLocally = mkOption {
      type = types.bool;
      default = false;
      description = ''
        Whether users are kept in a PostgreSQL on this machine, in the database `claviger` of the user `claviger`, whom
        PostgreSQL knows by the socket without a password. Else `settings.database.url` or the environment says where;
        without them it is the SQLite file {file}`/var/lib/claviger/claviger.db`.
      '';
    };

    redis.createLocally = mkOption {
      type = types.bool;
      default = false;
      description = ''
        Whether tokens are kept in a Redis on this machine, `services.redis.servers.claviger`, which listens on the
        loopback address and has a password that is made when the machine starts. Its URL, for services that read tokens,
        is in {file}`${redisFolder}/url`, which the group `claviger` may read. Else `settings.tokens.url` or the environment says
        where; without them it is the memory of the service.
      '';
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion =
          cfg.environmentFile == null
          || (lib.isString cfg.environmentFile && !(lib.hasPrefix builtins.storeDir cfg.environmentFile));
        message = "services.claviger.environmentFile would be in the Nix store, which everybody may read: write the path of a file on the machine, in quotes.";
      }
      {
        assertion =
          get "bootstrap" "password" == null
          && !(hasPassword (get "database" "url"))
          && !(hasPassword (get "tokens" "url"))
          && lib.all (client: !(client ? secret)) (lib.attrValues clients);
        message = "services.claviger.settings holds a password, and everybody may read it in the Nix store: put it into services.claviger.environmentFile.";
      }
      {
        assertion =
          cfg.database.createLocally -> get "database" "url" == null && get "database" "url_file" == null;
        message = "services.claviger.settings.database names a database, and services.claviger.database.createLocally makes another: choose one.";
      }
      {
        assertion = cfg.redis.createLocally -> get "tokens" "url" == null && get "tokens" "url_file" == null;
        message = "services.claviger.settings.tokens names a token store, and services.claviger.redis.createLocally makes another: choose one.";
      }
    ];

    environment.systemPackages = [ command ];

    users.users.claviger = {
      isSystemUser = true;
      group = "claviger";
      description = "Claviger";
    };
    users.groups.claviger = { };

    services = {
      # A proxy on this machine ends TLS.
      claviger.settings.server.listen = lib.mkDefault "127.0.0.1:8000";

      postgresql = lib.mkIf cfg.database.createLocally {
        enable = true;
        ensureDatabases = [ "claviger" ];
        ensureUsers = [
          {
            name = "claviger";
            ensureDBOwnership = true;
          }
        ];
      };

      redis.servers.claviger = lib.mkIf cfg.redis.createLocally {
        enable = true;
        bind = "127.0.0.1";
        port = lib.mkDefault 6379;
        requirePassFile = "${redisFolder}/password";
        # What was revoked stays revoked when the machine loses power, but for the last second.
        appendOnly = lib.mkDefault true;
      };
    };

    systemd.services = lib.mkMerge [
      {
        claviger = {
          description = "Claviger, a login service";
          wantedBy = [ "multi-user.target" ];
          wants = [ "network-online.target" ];
          # It rides out the time in which one of them is away, so it wants them and does not require them.
          after = [
            "network-online.target"
          ]
          ++ lib.optional cfg.database.createLocally "postgresql.target"
          ++ lib.optional cfg.redis.createLocally "redis-claviger.service";
          inherit environment;
          serviceConfig = asTheService // {
            Type = "exec";
            ExecStartPre = lib.optional (
              cfg.migrate && get "database" "schema_version" == null
            ) "${program} --config ${checkedFile} migrate up";
            ExecStart = "${program} --config ${checkedFile} serve";
            # A migration may take long, and gives up by itself where the database is away.
            TimeoutStartSec = "infinity";
            Restart = "on-failure";
            RestartSec = 5;
            # The configuration is not valid: trying again does not help.
            RestartPreventExitStatus = 78;

            # ProcSubset=pid is not among these: /proc/meminfo bounds the memory of the hash gate, and /proc/stat is
            # behind the metric process_start_time_seconds.
            AmbientCapabilities = "";
            CapabilityBoundingSet = "";
            DevicePolicy = "closed";
            LockPersonality = true;
            MemoryDenyWriteExecute = true;
            NoNewPrivileges = true;
            PrivateDevices = true;
            PrivateTmp = true;
            PrivateUsers = true;
            ProtectClock = true;
            ProtectControlGroups = true;
            ProtectHome = true;
            ProtectHostname = true;
            ProtectKernelLogs = true;
            ProtectKernelModules = true;
            ProtectKernelTunables = true;
            ProtectProc = "invisible";
            ProtectSystem = "strict";
            RemoveIPC = true;
            RestrictAddressFamilies = [
              "AF_INET"
              "AF_INET6"
              "AF_UNIX"
            ];
            RestrictNamespaces = true;
            RestrictRealtime = true;
            RestrictSUIDSGID = true;
            SystemCallArchitectures = "native";
            SystemCallErrorNumber = "EPERM";
            SystemCallFilter = [
              "@system-service"
              "~@privileged @resources"
              # The threads that hash are niced.
              "setpriority"
            ];
          };
        };
      }
      (lib.mkIf cfg.redis.createLocally {
        claviger = {
          requires = [ "claviger-redis-password.service" ];
          after = [ "claviger-redis-password.service" ];
        };
        redis-claviger = {
          requires = [ "claviger-redis-password.service" ];
          after = [ "claviger-redis-password.service" ];
        };
        claviger-redis-password = {
          description = "The password of Claviger's Redis";
          serviceConfig = {
            Type = "oneshot";
            RemainAfterExit = true;
            RuntimeDirectory = "claviger-redis";
            RuntimeDirectoryMode = "0750";
            # Redis knows the old one until it is started again.
            RuntimeDirectoryPreserve = true;
            Group = "claviger";
            UMask = "0027";
          };
          # `printf` is a builtin: no list of processes shows the password.
          script = ''
            cd ${redisFolder}
            if [ ! -s password ]; then
              od -An -N 32 -t x1 /dev/urandom | tr -d ' \n' >password
            fi
            # Anew each time: the port may have changed.
            printf 'redis://default:%s@127.0.0.1:%s/0\n' "$(cat password)" ${toString redis.port} >url
          '';
        };
      })
    ];
  };
}
