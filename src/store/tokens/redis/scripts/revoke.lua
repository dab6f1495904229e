-- Begins to end all sessions of a user: from here on no log-in that began before can come to its end.
-- KEYS[1]  the hash of the user
-- ARGV[1]  a new generation
-- ARGV[2]  how long the hash stays at least, in ms
-- ARGV[3]  the name of a session that is kept, or nothing
-- ARGV[4]  the id of a revocation that must not be carried out twice, or nothing
-- Answers with false if it was carried out, else with name and key of each session that has to end.
if ARGV[4] ~= '' then
    local done = redis.call('HGET', KEYS[1], 'r')
    if done and string.find(done, ARGV[4], 1, true) then
        return false
    end
end
redis.call('HSET', KEYS[1], 'g', ARGV[1])
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
local ending = {}
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
    local name = all[i]
    local key = string.match(all[i + 1], '^[1x]\n%d+\n%d+\n%d+\n([^\n]*)\n')
    if key and name ~= ARGV[3] then
        ending[#ending + 1] = name
        ending[#ending + 1] = key
    end
end
return ending
