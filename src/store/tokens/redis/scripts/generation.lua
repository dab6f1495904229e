-- Tells the generation of a user's sessions; makes one if there is none.
-- KEYS[1]  the hash of the user
-- ARGV[1]  a new generation
-- ARGV[2]  how long the hash stays at least, in ms
local generation = redis.call('HGET', KEYS[1], 'g') or ARGV[1]
local stay = math.max(redis.call('PTTL', KEYS[1]), tonumber(ARGV[2]))
-- Before there is something: who may write it but not give it an end would leave it for ever.
redis.call('PEXPIRE', KEYS[1], stay)
-- Also what is there already: only a write shows that this server takes writes, before a password is hashed for nothing.
redis.call('HSET', KEYS[1], 'g', generation)
redis.call('PEXPIRE', KEYS[1], stay)
return generation
