-- Note a failed attempt to deliver to a channel, and keep when the first of the row was. Returns 1.
local failing = KEYS[1]   -- hash: "<since> <at> <retried> <reason>" by channel
local channel = ARGV[1]
local at = ARGV[2]        -- of the attempt
local retried = ARGV[3]   -- 1: it is tried again
local reason = ARGV[4]

local noted = redis.call('HGET', failing, channel)
local since = noted and string.match(noted, '^(%S+) ')
-- A later beginning was noted by a clock that was ahead.
if not since or tonumber(since) > tonumber(at) then since = at end
redis.call('HSET', failing, channel, table.concat({since, at, retried, reason}, ' '))
return 1
