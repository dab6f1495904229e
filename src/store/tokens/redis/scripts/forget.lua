-- Forgets sessions whose keys are gone, and remembers the revocation that did it.
-- KEYS[1]  the hash of the user
-- ARGV[1]  the id of the revocation, or nothing
-- ARGV[2]  how many of these ids are remembered
-- ARGV[3]  and so on: the names of the sessions
for i = 3, #ARGV do
    redis.call('HDEL', KEYS[1], ARGV[i])
end
-- Of a hash that is gone there is nothing to remember: it would come back without a TTL.
if ARGV[1] ~= '' and redis.call('EXISTS', KEYS[1]) == 1 then
    local done = {ARGV[1]}
    for id in string.gmatch(redis.call('HGET', KEYS[1], 'r') or '', '%S+') do
        if #done < tonumber(ARGV[2]) and id ~= ARGV[1] then
            done[#done + 1] = id
        end
    end
    redis.call('HSET', KEYS[1], 'r', table.concat(done, ' '))
end
return 1
