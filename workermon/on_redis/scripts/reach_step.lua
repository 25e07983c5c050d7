-- KEYS: canary. ARGV: step, the step after it ('' for none), "<begun> <at>", time, longest break, how many were sent and
-- the channel (both '' unless it is published).
local step, after, at = ARGV[1], ARGV[2], tonumber(ARGV[4])
if ARGV[6] ~= '' then
  local before = tonumber(string.match(redis.call('HGET', KEYS[1], step) or '', '^%S+ (%S+)$') or '')
  if not before or at - before > tonumber(ARGV[5]) then
    for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
      if string.find(field, 'lost:', 1, true) == 1 then redis.call('HDEL', KEYS[1], field) end
    end
  end
  redis.call('HSET', KEYS[1], 'sent', ARGV[6])
end
redis.call('HSET', KEYS[1], step, ARGV[3])
redis.call('HDEL', KEYS[1], 'lost:' .. step)
if after ~= '' then redis.call('HINCRBY', KEYS[1], 'lost:' .. after, 1) end
if ARGV[7] ~= '' then redis.call('PUBLISH', ARGV[7], string.match(ARGV[3], '^%S+')) end
return 1
