-- Write the roll-ups of a worker's hour into its week, and remove the hour's mark.
-- Returns 1, or 0 if another process has written meanwhile: then nothing is written, and the mark stays.
local worker = KEYS[1]                 -- hash: the worker
local rollups = KEYS[2]                -- hash: the week
local rollups_due = KEYS[3]            -- zset: "<worker> <hour>" by the time of the hour's roll-up
local incarnation = ARGV[1]
local member = ARGV[2]                 -- of the hour
local lease_ends_at = tonumber(ARGV[3]) -- its time, unless it was marked again
local week = ARGV[4]                   -- its start
local lifetime = ARGV[5]               -- seconds
-- For each series its metric, its old value in the week ('' for none), and its new value.
local series_at = 6                    -- ARGV[series_at], …

local present, first_week = unpack(redis.call('HMGET', worker, 'incarnation', 'first_week'))
if present ~= incarnation then
  redis.call('ZREM', rollups_due, member)
  return 1
end
for i = series_at, #ARGV, 3 do
  if (redis.call('HGET', rollups, ARGV[i]) or '') ~= ARGV[i + 1] then return 0 end
end
for i = series_at, #ARGV, 3 do redis.call('HSET', rollups, ARGV[i], ARGV[i + 2]) end
if #ARGV >= series_at then
  redis.call('EXPIRE', rollups, lifetime)
  if not first_week or not tonumber(first_week) or tonumber(week) < tonumber(first_week) then
    redis.call('HSET', worker, 'first_week', week)
  end
end
local due_at = tonumber(redis.call('ZSCORE', rollups_due, member) or '')
if due_at == lease_ends_at then redis.call('ZREM', rollups_due, member) end
return 1
