-- Begins to end all sessions of a user: from here on no log-in that began before can come to its end.
-- KEYS[1]  the hash of the user
-- ARGV[1]  the name of a session that is kept, or nothing
-- ARGV[2]  the id of a revocation that must not be carried out twice, or nothing
-- Answers with false if it was carried out, else with name and key of each session that has to end.
if ARGV[2] ~= '' then
    local done = redis.call('HGET', KEYS[1], 'r')
    if done and string.find(done, ARGV[2], 1, true) then
        return false
    end
end
-- None is as good as another one, and is written also by a server whose memory is full.
redis.call('HDEL', KEYS[1], 'g')
local ending = {}
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
    local name = all[i]
    local key = string.match(all[i + 1], '^[1x]\n%d+\n%d+\n%d+\n([^\n]*)\n')
    if key and name ~= ARGV[1] then
        ending[#ending + 1] = name
        ending[#ending + 1] = key
    end
end
return ending
