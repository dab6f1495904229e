-- Notes that a session was in use, to the minute.
-- KEYS[1]  the hash of the user
-- ARGV[1]  the name of the session
local record = redis.call('HGET', KEYS[1], ARGV[1])
if not record then
    return 0
end
local now = tonumber(redis.call('TIME')[1])
local minute = string.format('%010d', now - now % 60)
if string.sub(record, 3, 12) >= minute then
    return 0
end
redis.call('HSET', KEYS[1], ARGV[1], string.sub(record, 1, 2) .. minute .. string.sub(record, 13))
return 1
