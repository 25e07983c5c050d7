-- Take a worker out of its cohort, "<account>/<region>/<interval>#<number>". Deletes a cohort without members.
local function leave_cohort(cohort_prefix, cohort)
  local group, number = string.match(cohort, '^(.*)#(%d+)$')
  if group and tonumber(redis.call('ZINCRBY', cohort_prefix .. group, -1, number)) <= 0 then
    redis.call('ZREM', cohort_prefix .. group, number)
  end
end

