-- Begins to end all sessions of a user: from here on no log-in that began before can come to its end.
-- KEYS[1]  the hash of the user
-- ARGV[1]  the name of a session that is kept, or nothing
-- ARGV[2]  the id of a revocation that must not end what began after it was carried out, or nothing
-- ARGV[3]  how many of these ids are remembered
-- ARGV[4]  how long the hash stays at least, in ms, for their sake
-- Answers with name and key of each session that has to end: if the revocation was carried out, of those that are marked.
local done = redis.call('HGET', KEYS[1], 'r') or ''
local again = ARGV[2] ~= '' and string.find(done, ARGV[2], 1, true)
if not again then
    -- None is as good as another one, and is written also by a server whose memory is full.
    redis.call('HDEL', KEYS[1], 'g')
end
local ending, marked = {}, true
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
    local name, record = all[i], all[i + 1]
    local state, key = string.match(record, '^([1x])\n%d+\n%d+\n%d+\n([^\n]*)\n')
    if key and name ~= ARGV[1] and (state == 'x' or not again) then
        ending[#ending + 1] = name
        ending[#ending + 1] = key
        if state ~= 'x' then
            -- A server whose memory is full refuses it. They are ended all the same.
            local answer = redis.pcall('HSET', KEYS[1], name, 'x' .. string.sub(record, 2))
            marked = marked and type(answer) ~= 'table'
        end
    end
end
if ARGV[2] ~= '' and not again and marked then
    local ids = {ARGV[2]}
    for id in string.gmatch(done, '%S+') do
        if #ids < tonumber(ARGV[3]) then
            ids[#ids + 1] = id
        end
    end
    redis.pcall('HSET', KEYS[1], 'r', table.concat(ids, ' '))
    local left = redis.call('PTTL', KEYS[1])
    if left ~= -2 and left < tonumber(ARGV[4]) then
        redis.call('PEXPIRE', KEYS[1], ARGV[4])
    end
end
return ending
