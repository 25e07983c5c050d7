-- Take an entry that cannot run off the schedule and store the reason. Its key stays, because it may belong to others.
local schedule = KEYS[1]   -- zset: RedBeat's: entries by the time of the next run
local quarantine = KEYS[2] -- hash: name of an entry that could not be read → reason
local entry = ARGV[1]      -- the entry's key
local name = ARGV[2]
local record = ARGV[3]     -- reason and time

redis.call('HSET', quarantine, name, record)
return redis.call('ZREM', schedule, entry)
