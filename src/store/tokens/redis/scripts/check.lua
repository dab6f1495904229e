-- Tells who holds a token and how long it lives, and prolongs its life, for it was in use.
-- KEYS[1]  the token's key
-- KEYS[2]  its companion, in the same slot, whose field `end` is the time at which the token ends in any case, in ms
-- ARGV[1]  the longest that it may go unchecked, in ms
-- Answers with false, or with the user's id and the life in ms.
local user = redis.pcall('GET', KEYS[1])
if type(user) ~= 'string' then
    -- No key, or no string: then this is the error, as it is. Until version 7 `call` would have put it into one of its own.
    return user
end
local life = redis.call('PTTL', KEYS[1])
if life <= 0 then
    return false
end
local last = tonumber(redis.call('HGET', KEYS[2], 'end'))
if not last then
    -- Issued without an idle limit.
    return {user, life}
end
local time = redis.call('TIME')
local rest = last - (tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))
if rest <= 0 then
    redis.call('DEL', KEYS[1], KEYS[2])
    return false
end
local idle = tonumber(ARGV[1])
local whole = math.min(idle, rest)
-- Not at each check: a write costs more than a read, and goes to the replicas too. The clock is read twice, so what is to be
-- gained is more than a difference of both readings.
if idle - life >= idle / 10 and whole - life > 10 then
    redis.call('PEXPIRE', KEYS[1], whole)
    life = whole
end
return {user, life}
