-- Failures from a network: counts one, or tells how long no more are taken.
-- KEYS[1]  the hash of the network; it ends a window after the first failure
-- ARGV[1]  count or ask
-- ARGV[2]  the limit
-- ARGV[3]  the window in ms
-- ask answers with the wait in ms, 0 if there is none, and whether the refusal is the first.
local failed = tonumber(redis.call('HGET', KEYS[1], 'failed')) or 0
if ARGV[1] == 'count' then
    redis.call('HSET', KEYS[1], 'failed', failed + 1)
    if failed == 0 then
        redis.call('PEXPIRE', KEYS[1], ARGV[3])
    end
    return {0, 0}
end
if failed < tonumber(ARGV[2]) then
    return {0, 0}
end
local first = redis.call('HSET', KEYS[1], 'told', '1')
return {math.max(redis.call('PTTL', KEYS[1]), 1), first}
