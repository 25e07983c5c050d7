-- Record that a part of workermon worked, and since when listener and collection have worked without a break.
-- `listener:since` is the start of the listener's unbroken work, `collect:since` the first collection after it.
local liveness = KEYS[1]                     -- hash: part → time
local part = ARGV[1]
local at = ARGV[2]
local longest_break = tonumber(ARGV[3])   -- seconds
-- 1 for an evaluation that may not come from the listener: then only `listener:since` may change.
local evaluates_only = ARGV[4] == '1'
local max_lead = tonumber(ARGV[5])        -- seconds; a mark further ahead was written by a clock that was ahead

if part == 'listener' then
  mark_listener(liveness, at, longest_break, evaluates_only)
  return 1
end
local began = tonumber(redis.call('HGET', liveness, 'listener:since') or '')
if part == 'collect' and began then
  local first = tonumber(redis.call('HGET', liveness, 'collect:since') or '')
  if not first or first < began or first - tonumber(at) > max_lead then
    redis.call('HSET', liveness, 'collect:since', at)
  end
end
redis.call('HSET', liveness, part, at)
return 1
