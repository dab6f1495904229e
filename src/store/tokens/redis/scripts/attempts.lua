-- One step of an attempt to log in to an account. The hash of an account has these fields:
--   k:NETWORK  when the last log-in from there succeeded, in ms
--   b:BUCKET   failures, attempts in flight, not before (ms), end (ms), whether a refusal was told. BUCKET is a network that
--              is known, or * for all others
--   straight   failures in a row; next: when a stranger may try again after too many of them (ms); told: that of which a
--              refusal was told
-- KEYS[1]  the hash of the account
-- ARGV[1]  reserve, failed, succeeded, abandoned or unlock
-- ARGV[2]  the network; for failed, succeeded and abandoned the bucket is ARGV[11]
-- ARGV[3]  limit of failures and attempts in flight; ARGV[4] window in ms
-- ARGV[5]  failures in a row until strangers get one attempt in ARGV[6] ms
-- ARGV[7]  how long a network is known in ms; ARGV[8] the most that are
-- ARGV[9]  first delay over the limit; ARGV[10] the longest, both in ms
-- ARGV[12] 1 if the attempt was the one that strangers have; ARGV[13] ms that are added to the clock
-- reserve answers with granted (0 or 1), wait in ms, whether the refusal is the first (or the attempt that of a stranger), bucket.
local key, step, network = KEYS[1], ARGV[1], ARGV[2]
local limit, window = tonumber(ARGV[3]), tonumber(ARGV[4])
local row, pause = tonumber(ARGV[5]), tonumber(ARGV[6])
local known_for, most_known = tonumber(ARGV[7]), tonumber(ARGV[8])
local first_delay, longest_delay = tonumber(ARGV[9]), tonumber(ARGV[10])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) + tonumber(ARGV[13])

local known, buckets, was = {}, {}, {}
local straight, next_try, told = 0, 0, 0
local all = redis.call('HGETALL', key)
for i = 1, #all, 2 do
    local field, value = all[i], all[i + 1]
    local kind, name = string.match(field, '^([kb]):(.+)$')
    was[field] = value
    if kind == 'k' then
        if tonumber(value) + known_for > now then
            known[name] = tonumber(value)
        end
    elseif kind == 'b' then
        local failed, flying, not_before, ends, said = string.match(value, '^(%d+) (%d+) (%d+) (%d+) (%d)$')
        if failed and tonumber(ends) > now then
            buckets[name] = {
                failed = tonumber(failed),
                flying = tonumber(flying),
                not_before = tonumber(not_before),
                ends = tonumber(ends),
                said = tonumber(said),
            }
        end
    elseif field == 'straight' then
        straight = tonumber(value)
    elseif field == 'next' then
        next_try = tonumber(value)
    elseif field == 'told' then
        told = tonumber(value)
    end
end

local function bucket_of(name)
    buckets[name] = buckets[name] or {failed = 0, flying = 0, not_before = 0, ends = now + window, said = 0}
    return buckets[name]
end

local function delay_after(failures)
    return math.min(longest_delay, first_delay * 2 ^ math.min(failures - limit, 40))
end

local function reserve()
    local name = known[network] and network or '*'
    local bucket = bucket_of(name)
    local last = 0
    if name == '*' and straight + bucket.flying >= row then
        if next_try == 0 or next_try > now then
            local first = told ~= next_try and 1 or 0
            told = next_try
            return {0, next_try == 0 and first_delay or next_try - now, first, name}
        end
        last = 1
    end
    local wait = bucket.not_before - now
    if wait <= 0 and bucket.flying > 0 and bucket.failed + bucket.flying >= limit then
        -- Those under way need some time themselves, and if they fail the delay begins only then.
        wait = delay_after(bucket.failed + bucket.flying) + first_delay
    end
    if wait > 0 then
        local first = 1 - bucket.said
        bucket.said = 1
        return {0, wait, first, name}
    end
    bucket.flying = bucket.flying + 1
    if last == 1 then
        next_try = now + pause
    end
    return {1, 0, last, name}
end

local function land()
    local bucket = bucket_of(ARGV[11])
    bucket.flying = math.max(bucket.flying - 1, 0)
    return bucket
end

local function failed()
    local bucket = land()
    bucket.failed = bucket.failed + 1
    if bucket.failed >= limit then
        bucket.not_before = now + delay_after(bucket.failed)
        bucket.ends = math.max(bucket.ends, bucket.not_before + window)
    end
    straight = straight + 1
    if straight == row then
        next_try = now + pause
    end
end

local function succeeded()
    local bucket = land()
    bucket.failed, bucket.not_before, bucket.said = 0, 0, 0
    straight, next_try, told = 0, 0, 0
    known[network] = now
    local names = {}
    for name in pairs(known) do
        names[#names + 1] = name
    end
    table.sort(names, function(a, b)
        if known[a] ~= known[b] then
            return known[a] > known[b]
        end
        return a < b
    end)
    for i = most_known + 1, #names do
        known[names[i]] = nil
        buckets[names[i]] = nil
    end
end

local answer = 0
if step == 'reserve' then
    answer = reserve()
elseif step == 'failed' then
    failed()
elseif step == 'succeeded' then
    succeeded()
elseif step == 'abandoned' then
    land()
    if ARGV[12] == '1' then
        next_try = now
    end
elseif step == 'unlock' then
    answer = (straight > 0 or next(buckets)) and 1 or 0
    buckets, straight, next_try, told = {}, 0, 0, 0
end

-- What is forgotten after as many days as there were failures gives one who waits for it no more than about one attempt a day.
local ends = now + math.min(straight, row) * pause
local set, keep = {}, {}
local function put(field, value)
    keep[field] = true
    if was[field] ~= value then
        set[#set + 1] = field
        set[#set + 1] = value
    end
end
for name, at in pairs(known) do
    put('k:' .. name, string.format('%d', at))
    ends = math.max(ends, at + known_for)
end
for name, b in pairs(buckets) do
    if b.failed > 0 or b.flying > 0 then
        put('b:' .. name, string.format('%d %d %d %d %d', b.failed, b.flying, b.not_before, b.ends, b.said))
        ends = math.max(ends, b.ends)
    end
end
if straight > 0 then
    put('straight', string.format('%d', straight))
end
if next_try > 0 then
    put('next', string.format('%d', next_try))
end
if told > 0 then
    put('told', string.format('%d', told))
end
local gone = {}
for field in pairs(was) do
    if not keep[field] then
        gone[#gone + 1] = field
    end
end
if #set > 0 then
    redis.call('HSET', key, unpack(set))
end
if #gone > 0 then
    redis.call('HDEL', key, unpack(gone))
end
redis.call('PEXPIRE', key, math.max(ends - now, 1))
return answer
