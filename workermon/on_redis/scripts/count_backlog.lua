-- KEYS: outbox. ARGV: the lanes' prefix, the canary's lane.
local waiting = 0
for _, lane in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  if lane ~= ARGV[2] then waiting = waiting + redis.call('LLEN', ARGV[1] .. lane) end
end
return waiting
