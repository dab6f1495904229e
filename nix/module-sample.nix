# A machine whose nginx serves Claviger at auth.example.org under /api, with PostgreSQL and Redis beside it. In a
# flake it is one of the modules of `nixosSystem`, after `claviger.nixosModules.default`.
{
  services.claviger = {
    enable = true;
    database.createLocally = true;
    redis.createLocally = true;
    # CLAVIGER_BOOTSTRAP__PASSWORD=..., for the first administrator. Tools such as sops-nix and agenix make such files.
    environmentFile = "/run/secrets/claviger.env";
    settings = {
      bootstrap.username = "admin";
      # nginx is the only one who may say what the address of the client is.
      server.trusted_proxies = [ "127.0.0.1" ];
      tokens.ttl = "12h";
    };
  };

  services.nginx = {
    enable = true;
    virtualHosts."auth.example.org" = {
      # Passwords pass here: for any network but one's own, a certificate is needed, as by these two and security.acme.
      # enableACME = true;
      # forceSSL = true;
      # For all locations below. What the client sends under these names is not passed on.
      extraConfig = ''
        proxy_set_header Host $host;
        proxy_set_header X-Request-Id $request_id;
        proxy_set_header X-Forwarded-For $remote_addr;
        proxy_set_header X-Forwarded-Host $host;
        proxy_set_header X-Forwarded-Port "";
        proxy_set_header X-Forwarded-Prefix /api;
        proxy_set_header X-Forwarded-Proto $scheme;
        proxy_set_header Forwarded "";
        # No password is written to a file, and the service answers within 10 s.
        client_body_buffer_size 32k;
        client_max_body_size 32k;
        proxy_read_timeout 15s;
      '';
      # The slash at the end takes /api away.
      locations."= /api".proxyPass = "http://127.0.0.1:8000/";
      locations."/api/".proxyPass = "http://127.0.0.1:8000/";
    };
  };

  networking.firewall.allowedTCPPorts = [
    80
    443
  ];
}
