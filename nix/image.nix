# The image: the binary, the libraries it needs, CA certificates, and nothing that could run anything else. What is
# promised here is what nix/image-contract.py checks.
#
# Nothing in it depends on the commit or on the time, so that two builds of one source are one digest. A release puts
# its revision beside the image, as annotations of the index.
{
  lib,
  dockerTools,
  claviger,
}:
let
  inherit (claviger.passthru) manifest;
  program = lib.getExe claviger;
  repository = manifest.workspace.package.repository or null;
  seconds = n: n * 1000000000;

  # A number and no name, since Kubernetes' runAsNonRoot understands numbers only.
  id = "65532";
in
dockerTools.streamLayeredImage {
  name = "claviger";
  tag = claviger.version;

  contents = [
    dockerTools.caCertificates
    (dockerTools.fakeNss.override {
      extraPasswdLines = [ "claviger:x:${id}:${id}:claviger:/var/lib/claviger:/sbin/nologin" ];
      extraGroupLines = [ "claviger:x:${id}:" ];
    })
  ];

  # `docker exec NAME claviger ...` finds the program in /bin. A new volume at /var/lib/claviger takes over the owner
  # of this folder, so that an SQLite file can be made in it.
  fakeRootCommands = ''
    mkdir -p bin tmp var/lib/claviger
    ln -s ${program} bin/claviger
    chmod 1777 tmp
    # For real it can't be done: the sandbox of a build knows no such user.
    FAKEROOTDONTTRYCHOWN=1 chown ${id}:${id} var/lib/claviger
    chmod 700 var/lib/claviger
  '';

  config = {
    User = "${id}:${id}";
    WorkingDir = "/";
    Entrypoint = [ program ];
    Cmd = [ "serve" ];
    StopSignal = "SIGTERM";
    ExposedPorts = {
      "8000/tcp" = { };
      "9000/tcp" = { };
    };
    Env = [
      # Else nobody outside the container could scrape it.
      "CLAVIGER_SERVER__OPS_LISTEN=0.0.0.0:9000"
      "SSL_CERT_FILE=/etc/ssl/certs/ca-bundle.crt"
    ];
    # Docker and compose use it; Kubernetes has probes of its own and does not look at it.
    Healthcheck = {
      Test = [
        "CMD"
        program
        "healthcheck"
      ];
      Interval = seconds 10;
      Timeout = seconds 12;
      StartPeriod = seconds 30;
      StartInterval = seconds 1;
      Retries = 3;
    };
    Labels = {
      "org.opencontainers.image.title" = "claviger";
      "org.opencontainers.image.description" = manifest.package.description;
      "org.opencontainers.image.licenses" = manifest.workspace.package.license;
      "org.opencontainers.image.version" = claviger.version;
    }
    // lib.optionalAttrs (repository != null) {
      "org.opencontainers.image.source" = repository;
      "org.opencontainers.image.documentation" = "${repository}#readme";
    };
  };
}
