-- Give entries their next run. An entry that was deleted, changed or run by another beat since it was read is skipped.
-- Returns how many were changed.
local schedule = KEYS[1] -- zset: RedBeat's: entries by the time of the next run
local runs_at = 1        -- ARGV[runs_at], …: of each entry: key, next run as read, new next run, meta ('': unchanged)

local marked = 0
for i = runs_at, #ARGV, 4 do
  local entry, read_score, next_run, meta = unpack(ARGV, i, i + 3)
  local score = redis.call('ZSCORE', schedule, entry)
  if score and tonumber(score) == tonumber(read_score) and redis.call('TYPE', entry).ok == 'hash'
    and redis.call('HEXISTS', entry, 'definition') == 1 then
    redis.call('ZADD', schedule, next_run, entry)
    if meta ~= '' then redis.call('HSET', entry, 'meta', meta) end
    marked = marked + 1
  end
end
return marked
