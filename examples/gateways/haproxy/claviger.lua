-- The action `lua.claviger` of haproxy.cfg: asks Claviger who sends a request. It sets
--   txn.claviger_status     "200", "401", or "503" for whatever else happens
--   txn.claviger_user_id    with 200: the user's id
--   txn.claviger_challenge  with 401: the value of WWW-Authenticate

-- The listener of haproxy.cfg that leads to Claviger, so that its settings are those of any server.
local LISTENER = "abns@claviger"
-- In milliseconds; longer than that listener takes to give up.
local TIMEOUT = 10000

-- The values of a header, which HAProxy counts from 0.
local function values(headers, name)
    local found = {}
    for index = 0, #(headers[name] or {}) do
        found[#found + 1] = headers[name] and headers[name][index]
    end
    return found
end

core.register_action("claviger", { "http-req" }, function(txn)
    txn:set_var("txn.claviger_status", "503")

    -- The token and the request's id, nothing else that the client sent. All its Authorization headers, since which of two
    -- counts is not for a gateway to say: Claviger refuses them.
    local answer = core.httpclient():get {
        url = "http://claviger/v1.0/forward-auth",
        dst = LISTENER,
        timeout = TIMEOUT,
        headers = {
            ["authorization"] = values(txn.http:req_get_headers(), "authorization"),
            ["x-request-id"] = { txn.f:unique_id() },
        },
    }

    local user_id = values(answer.headers or {}, "x-user-id")
    if answer.status == 200 and #user_id == 1 then
        txn:set_var("txn.claviger_user_id", user_id[1])
        txn:set_var("txn.claviger_status", "200")
    elseif answer.status == 401 then
        txn:set_var("txn.claviger_challenge", values(answer.headers, "www-authenticate")[1] or "Bearer")
        txn:set_var("txn.claviger_status", "401")
    end
end)
