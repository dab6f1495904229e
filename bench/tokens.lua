-- For wrk: each request checks one of the tokens in the file that BENCH_TOKENS names, one a line, taken at random.
-- One piece of text as list takes nearly the same time for a thousand and for a million of them.
local file = assert(io.open(os.getenv("BENCH_TOKENS")))
local list = file:read("*a")
file:close()
local length = list:find("\n", 1, true)
local count = #list / length
-- The token is in the middle. LuaJIT keeps each text once and finds it by a hash of some places, of which the middle is one: requests
-- that differ nowhere else would all be looked for in one long row.
local head = "GET /v1.0/user/auth HTTP/1.1\r\nAuthorization: Bearer "
local tail = "\r\nHost: bench\r\n\r\n"
math.randomseed(os.time())

function request()
    local start = math.random(0, count - 1) * length
    return head .. list:sub(start + 1, start + length - 1) .. tail
end
