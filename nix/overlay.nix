# For those who have a nixpkgs of their own.
final: _prev: {
  claviger = final.callPackage ./package.nix { };
}
