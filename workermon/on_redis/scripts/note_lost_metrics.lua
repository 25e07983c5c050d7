-- Record which metrics stopped arriving in an account and region. Returns 1, or 0 if nothing was collected there.
local account = KEYS[1]       -- hash: the state of collection there
local lost_metrics = ARGV[1]  -- a JSON list, '' for none

if redis.call('EXISTS', account) == 0 then return 0 end
if lost_metrics == '' then
  redis.call('HDEL', account, 'lost_metrics')
else
  redis.call('HSET', account, 'lost_metrics', lost_metrics)
end
return 1
