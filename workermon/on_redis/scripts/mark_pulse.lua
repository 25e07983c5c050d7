-- Record that a part of workermon worked, and since when listener and collection have worked without a break.
-- `listener:since` is the start of the listener's unbroken work, `collect:since` the first collection after it.
local pulse = KEYS[1]                     -- hash: part → time
local part = ARGV[1]
local at = ARGV[2]
local longest_break = tonumber(ARGV[3])   -- seconds
-- 1 for an evaluation that may not come from the listener: then only `listener:since` may change.
local evaluates_only = ARGV[4] == '1'
local max_lead = tonumber(ARGV[5])        -- seconds; a mark further ahead was written by a clock that was ahead

local began = tonumber(redis.call('HGET', pulse, 'listener:since') or '')
if part == 'listener' then
  local before = tonumber(redis.call('HGET', pulse, 'listener') or '')
  local was_away = not before or tonumber(at) - before > longest_break
  local set_back = before and before - tonumber(at) > longest_break and not evaluates_only
  if was_away and (before or not evaluates_only) or set_back then
    redis.call('HSET', pulse, 'listener:since', at)
  end
  if set_back then redis.call('HDEL', pulse, 'collect:since') end
elseif part == 'collect' and began then
  local first = tonumber(redis.call('HGET', pulse, 'collect:since') or '')
  if not first or first < began or first - tonumber(at) > max_lead then
    redis.call('HSET', pulse, 'collect:since', at)
  end
end
if not evaluates_only then redis.call('HSET', pulse, part, at) end
return 1
