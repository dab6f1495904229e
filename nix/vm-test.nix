# Two machines: the one of nix/module-sample.nix, and a client that knows its nginx only. By hand:
# nix build .#checks.x86_64-linux.vm
module:
let
  password = "correct horse battery staple";
in
{
  name = "claviger";

  nodes.server =
    { lib, pkgs, ... }:
    {
      imports = [
        module
        ./module-sample.nix
      ];
      # In a test everybody may know it.
      services.claviger.environmentFile = lib.mkForce "/etc/claviger.env";
      environment.etc."claviger.env".text = ''
        CLAVIGER_BOOTSTRAP__PASSWORD="${password}"
      '';
      environment.systemPackages = [
        pkgs.jq
        pkgs.redis
      ];
    };

  nodes.client =
    { pkgs, ... }:
    {
      environment.systemPackages = [
        pkgs.curl
        pkgs.jq
      ];
    };

  testScript = ''
    import json

    URL = "http://server/api/v1.0/user/auth"
    OPS = "http://127.0.0.1:9000"


    def status(arguments):
        return client.succeed(f"curl -s -o /dev/null -w '%{{http_code}}' {arguments}")


    def log_in():
        body = json.dumps({"username": "admin", "password": "${password}"})
        client.succeed(f"printf '%s' '{body}' >/tmp/login.json")
        answer = client.succeed(f"curl -sf -H 'content-type: application/json' -d @/tmp/login.json {URL}")
        return json.loads(answer)["access_token"]


    def check(token):
        return status(f"-H 'authorization: Bearer {token}' {URL}")


    start_all()
    server.wait_for_unit("claviger.service")
    server.wait_for_unit("nginx.service")
    server.wait_until_succeeds(f"curl -sf {OPS}/readyz")
    client.wait_for_unit("multi-user.target")

    with subtest("log in through nginx, check, and find the id in Redis"):
        token = log_in()
        assert check(token) == "200"
        found = server.succeed(f"redis-cli --no-auth-warning -u $(cat /run/claviger-redis/url) GET {token}")
        assert found.strip() == "1", found

    with subtest("a restart ends no session"):
        server.succeed("systemctl restart claviger.service")
        server.wait_until_succeeds(f"curl -sf {OPS}/readyz")
        assert check(token) == "200"

    with subtest("log out"):
        assert status(f"-X DELETE -H 'authorization: Bearer {token}' {URL}") == "204"
        assert check(token) == "401"

    with subtest("only the API is reachable from elsewhere"):
        client.fail("curl -s --max-time 5 http://server:8000/")
        client.fail("curl -s --max-time 5 http://server:9000/metrics")
        assert status("http://server/api/metrics") == "404"
        assert status("http://server/apiary") == "404"

    with subtest("the service cannot be read by others"):
        server.fail("sudo -u nobody cat /run/claviger-redis/url")
        server.fail("sudo -u nobody ls /var/lib/claviger")

    with subtest("an administrator's command runs as the service"):
        server.succeed("claviger user list | grep admin")
        server.succeed("claviger smoke --url http://127.0.0.1:8000")

    with subtest("the schema goes down and up again"):
        server.succeed("claviger migrate down")
        server.wait_until_fails(f"curl -sf {OPS}/readyz")
        # The start migrates.
        server.succeed("systemctl restart claviger.service")
        server.wait_until_succeeds(f"curl -sf {OPS}/readyz")
        server.succeed("claviger migrate status | grep '^current'")
        assert check(log_in()) == "200"

    server.log(server.execute("systemd-analyze security claviger.service --no-pager")[1])
  '';
}
