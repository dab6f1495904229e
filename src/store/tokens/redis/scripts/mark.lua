-- Marks a session as ending, so that a log-in that is still at it does not let it live.
-- KEYS[1]  the hash of the user
-- ARGV[1]  the name of the session
-- Answers with false if there is none, else with its key, and whether it was marked before.
local record = redis.call('HGET', KEYS[1], ARGV[1])
if not record then
    return false
end
-- A server whose memory is full refuses this one. A log-in that is still at it then finds no key to give a life to, or it is
-- deleted after that.
redis.pcall('HSET', KEYS[1], ARGV[1], 'x' .. string.sub(record, 2))
local state, key = string.match(record, '^([1x])\n%d+\n%d+\n%d+\n([^\n]*)\n')
if not key then
    return false
end
return {key, state}
