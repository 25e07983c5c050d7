-- Write the schedule entries of workers, and put each into a cohort, whose members run together.
-- A worker keeps its cohort as long as account, region and interval stay the same. Otherwise it joins the cohort with
-- the fewest members, or starts a new one with the lowest free number. A next run at most an interval ahead stays.
local schedule = KEYS[1]                -- zset: RedBeat's: entries by the time of the next run
local cohorts = KEYS[2]                 -- hash: worker id → cohort
local quarantine = KEYS[3]              -- hash: name of an entry that could not be read → reason
local phases = KEYS[4]                  -- hash: cohort → its own place, in seconds into the interval
local now = tonumber(ARGV[1])
local cohort_prefix = ARGV[2]           -- zset: cohort number → members, of one account, region and interval
local cohort_size = tonumber(ARGV[3])   -- members at most
local golden = tonumber(ARGV[4])        -- cohort n is due at the fraction of n times this, in intervals
local spread = tonumber(ARGV[5])        -- part of the interval over which cohorts spread
local changed = ARGV[6]                 -- the channel on which beat waits for new entries
-- Of each worker: its entry's key, the entry's name, worker id, group (account, region, interval), interval, and the
-- entry's definition with '#@number@' where the number of its cohort belongs.
local entries_at = 7                    -- ARGV[entries_at], …

local is_scheduled = false
for i = entries_at, #ARGV, 6 do
  local entry, name, worker_id, group, interval_text, template = unpack(ARGV, i, i + 5)
  local interval = tonumber(interval_text)
  local cohort = redis.call('HGET', cohorts, worker_id)
  local number = cohort and string.sub(cohort, 1, #group + 1) == group .. '#' and string.sub(cohort, #group + 2)
  local is_member = number ~= nil and number ~= false
  if not is_member then
    if cohort then leave_cohort(cohort_prefix, cohort) end
    number = choose_cohort(cohort_prefix, group, cohort_size)
    redis.call('HSET', cohorts, worker_id, group .. '#' .. number)
  end
  local kind = redis.call('TYPE', entry).ok
  if kind ~= 'hash' and kind ~= 'none' then redis.call('DEL', entry) end
  local definition = string.gsub(template, '#@number@', '#' .. number, 1)
  if redis.call('HGET', entry, 'definition') ~= definition then
    redis.call('HSET', entry, 'definition', definition)
  end
  redis.call('HSETNX', entry, 'meta', '{"last_run_at": null}')
  local score = tonumber(redis.call('ZSCORE', schedule, entry) or '')
  if not (is_member and score and score >= 0 and score <= now + interval) then
    local phase = tonumber(redis.call('HGET', phases, group .. '#' .. number) or '')
    if not (phase and phase >= 0 and phase < interval) then
      phase = (tonumber(number) * golden % 1) * spread * interval
    end
    local due = (math.floor((now - phase) / interval) + 1) * interval + phase
    redis.call('ZADD', schedule, string.format('%.6f', due), entry)
    is_scheduled = true
  end
  redis.call('HDEL', quarantine, name)
end
if is_scheduled then redis.call('PUBLISH', changed, '') end
return 1
