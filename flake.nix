{
  description = "Claviger, a self-hosted login service (needs Nix 2.18 or newer)";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      linux = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      # To develop on; images and NixOS are Linux.
      all = linux ++ [ "aarch64-darwin" ];
      for = systems: f: lib.genAttrs systems (system: f nixpkgs.legacyPackages.${system});
      packagesOf = pkgs: self.packages.${pkgs.stdenv.hostPlatform.system};
    in
    {
      packages = for all (
        pkgs:
        let
          claviger = pkgs.callPackage ./nix/package.nix { };
        in
        {
          default = claviger;
          inherit claviger;
          chart = pkgs.callPackage ./nix/chart.nix { };
        }
        // lib.optionalAttrs pkgs.stdenv.hostPlatform.isLinux {
          image = pkgs.callPackage ./nix/image.nix { inherit claviger; };
        }
      );

      apps = for all (
        pkgs:
        import ./nix/apps.nix {
          inherit pkgs;
          packages = packagesOf pkgs;
        }
      );

      devShells = for all (pkgs: {
        default = pkgs.callPackage ./nix/devshell.nix { inherit (packagesOf pkgs) claviger; };
      });

      # Known vulnerabilities are not among them: they change daily, and the same commit would pass on one day and fail
      # on the next.
      checks = for linux (
        pkgs:
        import ./nix/checks.nix {
          inherit pkgs;
          inherit (packagesOf pkgs) chart claviger image;
          inherit (lib) nixosSystem;
          module = self.nixosModules.default;
        }
      );

      formatter = for all (pkgs: pkgs.nixfmt-tree);

      overlays.default = import ./nix/overlay.nix;

      nixosModules.default = import ./nix/module.nix packagesOf;
    };
}
