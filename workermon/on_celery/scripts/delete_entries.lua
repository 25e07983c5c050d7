-- Delete the schedule entries of workers, and everything stored beside them.
local schedule = KEYS[1]       -- zset: RedBeat's: entries by the time of the next run
local cohorts = KEYS[2]        -- hash: worker id → cohort
local quarantine = KEYS[3]     -- hash: name of an entry that could not be read → reason
local cohort_prefix = ARGV[1]  -- zset: cohort number → members, with one account, region and interval
local entries_at = 2           -- ARGV[entries_at], …: the entry's key, its name, and the worker id of each

for i = entries_at, #ARGV, 3 do
  local entry, name, worker_id = unpack(ARGV, i, i + 2)
  redis.call('ZREM', schedule, entry)
  redis.call('DEL', entry)
  redis.call('HDEL', quarantine, name)
  local cohort = redis.call('HGET', cohorts, worker_id)
  if cohort then
    leave_cohort(cohort_prefix, cohort)
    redis.call('HDEL', cohorts, worker_id)
  end
end
return 1
