-- KEYS: outbox, reminders. ARGV: now, limit, prefixes of leases, lanes, last notifications and sets of lanes, and from
-- when on a time is that of a clock that was ahead.
for _, lane in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', ARGV[1], 'LIMIT', 0, 500)) do
  redis.call('ZREM', KEYS[2], lane)
  local alert = string.match(lane, '^[^:]*:(.*)$')
  local last = redis.call('GET', ARGV[5] .. alert)
  if last and redis.call('EXISTS', ARGV[4] .. lane) == 0 and string.find(last, '"status":"firing"', 1, true) then
    local notification = string.match(last, '^%S+ {(.*)$')
    redis.call('RPUSH', ARGV[4] .. lane, '{"reminder":true,' .. string.gsub(notification, ',"reminder":false', '', 1))
    redis.call('ZADD', KEYS[1], ARGV[1], lane)
    redis.call('SADD', ARGV[6] .. alert, lane)
  end
end
local found, seen = {}, {}
for _, range in ipairs({{'-inf', ARGV[1]}, {'(' .. ARGV[7], '+inf'}}) do
  local start = 0
  while #found < tonumber(ARGV[2]) do
    local lanes = redis.call('ZRANGEBYSCORE', KEYS[1], range[1], range[2], 'LIMIT', start, 200)
    if #lanes == 0 then break end
    start = start + #lanes
    for _, lane in ipairs(lanes) do
      local alert = string.match(lane, '^[^:]*:(.*)$')
      if not seen[alert] and #found < tonumber(ARGV[2]) and redis.call('EXISTS', ARGV[3] .. lane) == 0 then
        seen[alert] = true
        found[#found + 1] = alert
      end
    end
  end
end
return found
