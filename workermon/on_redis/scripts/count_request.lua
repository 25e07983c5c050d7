-- Add to the counts of requests to AWS: those of an hour, and the totals.
local hour = KEYS[1]      -- hash: counts, and 'counted_since' (when the first request was counted)
local totals = KEYS[2]    -- hash: counts
local at = ARGV[1]
local lifetime = ARGV[2]  -- seconds
local counts_at = 3       -- ARGV[counts_at], …: fields and numbers to add, alternating

redis.call('HSETNX', hour, 'counted_since', at)
for i = counts_at, #ARGV, 2 do
  add(hour, ARGV[i], ARGV[i + 1])
  add(totals, ARGV[i], ARGV[i + 1])
end
redis.call('EXPIRE', hour, lifetime)
return 1
