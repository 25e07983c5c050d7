-- Give entries their next run. An entry that was deleted, changed or run by another beat since it was read is skipped.
-- Returns how many were changed. Reads and writes the schedule in one call for all entries, because calls are costly.
local schedule = KEYS[1] -- zset: RedBeat's: entries by the time of the next run
local runs_at = 1        -- ARGV[runs_at], …: of each entry: key, next run as read, new next run, meta ('': unchanged)

local names = {}
for i = runs_at, #ARGV, 4 do names[#names + 1] = ARGV[i] end
local scores = redis.call('ZMSCORE', schedule, unpack(names))
local runs = {}
for place, entry in ipairs(names) do
  local _, read_score, next_run, meta = unpack(ARGV, runs_at + 4 * (place - 1), runs_at + 4 * place - 1)
  local score = scores[place]
  -- For a key of another type HEXISTS returns an error, not 1.
  if score and tonumber(score) == tonumber(read_score) and redis.pcall('HEXISTS', entry, 'definition') == 1 then
    if meta ~= '' then redis.call('HSET', entry, 'meta', meta) end
    runs[#runs + 1] = next_run
    runs[#runs + 1] = entry
  end
end
if #runs > 0 then redis.call('ZADD', schedule, unpack(runs)) end
return #runs / 2
