-- For wrk: each request checks one of the tokens in the file that BENCH_TOKENS names, one a line, taken at random.
-- A list in one piece of text takes the same time for a thousand and for a million of them.
local file = assert(io.open(os.getenv("BENCH_TOKENS")))
local list = file:read("*a")
file:close()
local length = list:find("\n", 1, true)
local count = #list / length
local head = "GET /v1.0/user/auth HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer "
math.randomseed(os.time())

function request()
    local start = math.random(0, count - 1) * length
    return head .. list:sub(start + 1, start + length - 1) .. "\r\n\r\n"
end
