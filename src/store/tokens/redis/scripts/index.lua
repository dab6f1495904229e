-- Notes a session, if the generation is still the same.
-- KEYS[1]  the hash of the user
-- ARGV[1]  the generation
-- ARGV[2]  the name of the session
-- ARGV[3]  its life, in ms
-- ARGV[4]  how long the hash stays after the last of its sessions, in ms
-- ARGV[5]  the most sessions
-- ARGV[6]  the end of the record: key, address, username, user agent
-- ARGV[7]  something if it was looked whether the keys of those are there that would end otherwise
-- Answers with false; or with `which`, and name and key of each session whose key may be gone, for there are too many; or with
-- `done`, and name and key of each session that has to end now.
if redis.call('HGET', KEYS[1], 'g') ~= ARGV[1] then
    return false
end
local time = redis.call('TIME')
local seconds = tonumber(time[1])
local now = seconds * 1000 + math.floor(tonumber(time[2]) / 1000)

local living, ending = {}, {'done'}
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
    local name, record = all[i], all[i + 1]
    local state, created, expires, key = string.match(record, '^([1x])\n%d+\n(%d+)\n(%d+)\n([^\n]*)\n')
    if state then
        -- A minute late: the key may be on another server, whose clock is another.
        if tonumber(expires) + 60000 < now then
            redis.call('HDEL', KEYS[1], name)
        elseif state == 'x' then
            -- Whoever marked it is at it, or has died.
            ending[#ending + 1] = name
            ending[#ending + 1] = key
        else
            living[#living + 1] = {name = name, key = key, created = tonumber(created), record = record}
        end
    end
end

local surplus = #living + 1 - tonumber(ARGV[5])
if surplus > 0 and ARGV[7] == '' then
    -- What was not checked for long, and what a process that ended left behind, must not end a session that is in use. Of
    -- one that is being issued the key may not be there yet.
    local which = {'which'}
    for _, session in ipairs(living) do
        if session.created + 60000 < now then
            which[#which + 1] = session.name
            which[#which + 1] = session.key
        end
    end
    if #which > 1 then
        return which
    end
end
if surplus > 0 then
    table.sort(living, function(a, b)
        if a.created ~= b.created then
            return a.created < b.created
        end
        return a.name < b.name
    end)
    for i = 1, surplus do
        local oldest = living[i]
        redis.call('HSET', KEYS[1], oldest.name, 'x' .. string.sub(oldest.record, 2))
        ending[#ending + 1] = oldest.name
        ending[#ending + 1] = oldest.key
    end
end

local times = string.format('1\n%010d\n%013d\n%013d\n', seconds - seconds % 60, now, now + tonumber(ARGV[3]))
redis.call('HSET', KEYS[1], ARGV[2], times .. ARGV[6])
local stay = tonumber(ARGV[3]) + tonumber(ARGV[4])
if redis.call('PTTL', KEYS[1]) < stay then
    redis.call('PEXPIRE', KEYS[1], stay)
end
return ending
