-- Add to a number of a hash. A value that is not a number counts as 0.
local function add(key, field, number)
  local reply = redis.pcall('HINCRBY', key, field, number)
  if type(reply) == 'table' and reply.err then redis.call('HSET', key, field, number) end
end

