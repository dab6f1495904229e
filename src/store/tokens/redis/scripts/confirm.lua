-- Tells what became of a session that was noted, and whose key was written since: 1 if it may live, 2 if it was ended by itself
-- meanwhile, 0 if all sessions of the user were. Forgets sessions whose keys are gone.
-- KEYS[1]  the hash of the user
-- ARGV[1]  the generation
-- ARGV[2]  the name of the session
-- ARGV[3]  and so on: the names of those that ended
for i = 3, #ARGV do
    redis.call('HDEL', KEYS[1], ARGV[i])
end
if redis.call('HGET', KEYS[1], 'g') ~= ARGV[1] then
    return 0
end
local record = redis.call('HGET', KEYS[1], ARGV[2])
if record and string.sub(record, 1, 1) == '1' then
    return 1
end
return 2
