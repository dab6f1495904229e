-- Marks a session as ending, so that a log-in that is still at it does not let it live, and tells its key.
-- KEYS[1]  the hash of the user
-- ARGV[1]  the name of the session
local record = redis.call('HGET', KEYS[1], ARGV[1])
if not record then
    return false
end
-- A server whose memory is full refuses this one. It refuses log-ins too, so none is at it.
redis.pcall('HSET', KEYS[1], ARGV[1], 'x' .. string.sub(record, 2))
return string.match(record, '^[1x]\n%d+\n%d+\n%d+\n([^\n]*)\n')
