-- Tells the generation of a user's sessions; makes one if there is none.
-- KEYS[1]  the hash of the user
-- ARGV[1]  a new generation
-- ARGV[2]  how long the hash stays at least, in ms
local generation = redis.call('HGET', KEYS[1], 'g') or ARGV[1]
-- Also what is there already: only a write shows that this server takes writes, before a password is hashed for nothing. And
-- before any other: a script that has written is not refused for want of memory any more.
redis.call('HSET', KEYS[1], 'g', generation)
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return generation
