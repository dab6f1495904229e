-- Forgets sessions whose keys are gone, and remembers the revocation that did it.
-- KEYS[1]  the hash of the user
-- ARGV[1]  the id of the revocation, or nothing
-- ARGV[2]  how many of these ids are remembered
-- ARGV[3]  how long the hash stays at least, in ms
-- ARGV[4]  and so on: the names of the sessions
for i = 4, #ARGV do
    redis.call('HDEL', KEYS[1], ARGV[i])
end
if ARGV[1] ~= '' then
    local done = {ARGV[1]}
    for id in string.gmatch(redis.call('HGET', KEYS[1], 'r') or '', '%S+') do
        if #done < tonumber(ARGV[2]) and id ~= ARGV[1] then
            done[#done + 1] = id
        end
    end
    -- A server whose memory is full refuses it. The sessions are ended all the same.
    redis.pcall('HSET', KEYS[1], 'r', table.concat(done, ' '))
    if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[3]) then
        redis.call('PEXPIRE', KEYS[1], ARGV[3])
    end
end
return 1
