# The service, from nixpkgs' own parts alone, so that nixpkgs could take this file as it is.
{
  lib,
  stdenv,
  rustPlatform,
  rustc,
  installShellFiles,
}:
let
  manifest = lib.importTOML ../Cargo.toml;
  inherit (manifest.workspace.package) version rust-version;

  # What the compiler reads, and no text: a word in the README must not build the service anew. Cargo reads the
  # manifests of all members and looks for their targets, so the benches belong to it.
  src = lib.fileset.toSource {
    root = ../.;
    fileset = lib.fileset.unions [
      ../Cargo.toml
      ../Cargo.lock
      ../src
      ../migration
      ../bench
      ../benches
    ];
  };
in
lib.throwIf (lib.versionOlder rustc.version rust-version)
  "claviger needs Rust ${rust-version}, and this nixpkgs has ${rustc.version}: run `nix flake update nixpkgs`, or let the flake that brings this nixpkgs follow a newer one."
  (
    rustPlatform.buildRustPackage {
      pname = manifest.package.name;
      inherit version src;

      # Needs no hash that somebody would have to keep up to date.
      cargoLock.lockFile = ../Cargo.lock;

      nativeBuildInputs = [ installShellFiles ];

      # They are a check of the flake: they need servers, and an installation must not run them again.
      doCheck = false;

      postInstall = lib.optionalString (stdenv.buildPlatform.canExecute stdenv.hostPlatform) ''
        installShellCompletion --cmd claviger \
          --bash <($out/bin/claviger completions bash) \
          --fish <($out/bin/claviger completions fish) \
          --zsh <($out/bin/claviger completions zsh)
      '';

      # Each would bring a compiler or our sources into every installation and image.
      disallowedReferences = [
        src
        rustc
        rustc.unwrapped
      ];

      passthru = { inherit manifest; };

      meta = {
        inherit (manifest.package) description;
        license = with lib.licenses; [
          asl20
          mit
        ];
        mainProgram = "claviger";
        platforms = lib.platforms.unix;
      };
    }
  )
