-- Gives a token its whole life; 0 if it was ended meanwhile.
-- KEYS[1]  the token's key
-- KEYS[2]  its companion, in the same slot; only with an idle limit
-- ARGV[1]  the life, in ms
-- ARGV[2]  the longest that it may go unchecked, in ms
if #KEYS == 1 then
    return redis.call('PEXPIRE', KEYS[1], ARGV[1])
end
local life = math.min(tonumber(ARGV[1]), tonumber(ARGV[2]))
if redis.call('PEXPIRE', KEYS[1], life) == 0 then
    return 0
end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
redis.call('HSET', KEYS[2], 'end', string.format('%013d', now + tonumber(ARGV[1])))
redis.call('PEXPIRE', KEYS[2], ARGV[1])
return 1
